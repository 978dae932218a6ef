"""The draft's network: mobile routers MR1 and MR2, the mobile node MN1, correspondents, a server.

    CN1 ─┐         ┌─ MR1 ─┐
    CN3 ─┼─ core ──┤   │   ├─ MN1 (at one of them, or both)
    server ┘       └─ MR2 ─┘

IP1 is the address of MN1 at MR1, IP2 at MR2. While MN1 is at MR2 with the anchor on, IP1 is still
routed to it through MR1 and MR2: host routes stand in for the mobility tunnel.
"""

import contextlib
from collections.abc import Iterator

from tests.lab.network import Network, network

__all__ = ["CN3_AT_MR3", "IP1", "IP2", "SERVER", "Draft", "draft"]

IP1, IP2, SERVER = "10.1.0.10", "10.2.0.10", "10.9.0.2"
CN3_AT_MR3 = "10.5.0.10"


class Draft:
    """The network, and where MN1 is in it."""

    def __init__(self, made: Network) -> None:
        self.net = made
        made.host("core", "mr1", "mr2", "mn1", "cn1", "cn3", "server")
        made.link("core", "10.101.0.1/24", "mr1", "10.101.0.2/24")
        made.link("core", "10.102.0.1/24", "mr2", "10.102.0.2/24")
        made.link("mr1", "10.12.0.1/24", "mr2", "10.12.0.2/24")
        for name, subnet in (("cn1", "10.3.0"), ("cn3", "10.4.0"), ("server", "10.9.0")):
            made.link("core", f"{subnet}.1/24", name, f"{subnet}.2/24")
            made[name].ip("route", "add", "default", "via", f"{subnet}.1")
        made.link("mr1", "10.1.0.1/24", "mn1", "")
        made.link("mr2", "10.2.0.1/24", "mn1", "")
        core, mr1, mr2 = made["core"], made["mr1"], made["mr2"]
        for router in (core, mr1, mr2):
            router.forward()
        core.ip("route", "add", "10.1.0.0/24", "via", "10.101.0.2")
        core.ip("route", "add", "10.2.0.0/24", "via", "10.102.0.2")
        mr1.ip("route", "add", "default", "via", "10.101.0.1")
        mr2.ip("route", "add", "default", "via", "10.102.0.1")
        # CN3 can move too, to MR3.
        made.host("mr3")
        made.link("core", "10.103.0.1/24", "mr3", "10.103.0.2/24")
        made["mr3"].forward()
        made["mr3"].ip("route", "add", "default", "via", "10.103.0.1")
        core.ip("route", "add", "10.5.0.0/24", "via", "10.103.0.2")
        made.link("mr3", "10.5.0.1/24", "cn3", "")
        made["cn3"].ip("link", "set", "mr3", "down")
        # What comes from an address of MN1 leaves over the network of that address.
        for table, address in (("1", IP1), ("2", IP2)):
            made["mn1"].ip("rule", "add", "from", address, "table", table)
        made["mn1"].ip("link", "set", "mr1", "down")
        made["mn1"].ip("link", "set", "mr2", "down")

    def attach(self, router: str) -> None:
        """MN1 comes to a router and gets an address there; its traffic leaves there now."""
        mn1 = self.net["mn1"]
        address, gateway = {"mr1": (IP1, "10.1.0.1"), "mr2": (IP2, "10.2.0.1")}[router]
        mn1.ip("link", "set", router, "up")
        mn1.ip("address", "replace", f"{address}/24", "dev", router)
        mn1.ip("route", "replace", "default", "via", gateway, "dev", router)
        table = {"mr1": "1", "mr2": "2"}[router]
        mn1.ip("route", "replace", "default", "via", gateway, "dev", router, "table", table)

    def detach(self, router: str) -> None:
        """MN1 leaves a router: the link is gone, and its address with it."""
        mn1 = self.net["mn1"]
        mn1.ip("address", "flush", "dev", router)
        mn1.ip("link", "set", router, "down")

    def anchor(self) -> None:
        """MN1, which is at MR1, moves to MR2 and keeps IP1 there for what uses it already."""
        net = self.net
        mn1, mr1, mr2 = net["mn1"], net["mr1"], net["mr2"]
        mn1.ip("address", "add", f"{IP1}/32", "dev", "lo", "preferred_lft", "0")
        self.attach("mr2")
        mn1.ip("route", "replace", "default", "via", "10.2.0.1", "dev", "mr2", "table", "1")
        mr2.ip("route", "replace", f"{IP1}/32", "via", IP2)
        mr1.ip("route", "replace", f"{IP1}/32", "via", "10.12.0.2")
        self.detach("mr1")

    def also(self, router: str) -> None:
        """MN1 comes to a second router; its default route stays where it is."""
        routes = self.net["mn1"].ip("route", "show", "default").split()
        self.attach(router)
        old = routes[routes.index("via") + 1]
        self.net["mn1"].ip("route", "replace", "default", "via", old)

    def silence(self, router: str) -> None:
        """A router drops everything, and tells nobody."""
        self.net[router].run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")

    def move_caller(self) -> None:
        """CN3 leaves its network for MR3."""
        cn3 = self.net["cn3"]
        cn3.ip("address", "flush", "dev", "core")
        cn3.ip("link", "set", "core", "down")
        cn3.ip("link", "set", "mr3", "up")
        cn3.ip("address", "add", f"{CN3_AT_MR3}/24", "dev", "mr3")
        cn3.ip("route", "replace", "default", "via", "10.5.0.1")

    def filter(self, subnet: str) -> None:
        """Nothing passes between a correspondent's subnet and MN1's networks."""
        for there in ("10.1.0.0/24", "10.2.0.0/24"):
            self.net["core"].ip("rule", "add", "from", subnet, "to", there, "blackhole")

    def end_anchor(self) -> None:
        """IP1 is not routed to MN1 any more."""
        net = self.net
        net["mr1"].ip("route", "del", f"{IP1}/32")
        net["mr2"].ip("route", "del", f"{IP1}/32")
        net["mn1"].ip("address", "del", f"{IP1}/32", "dev", "lo")


@contextlib.contextmanager
def draft() -> Iterator[Draft]:
    """Build it, with MN1 at MR1; nothing of it is left afterwards."""
    with network() as made:
        built = Draft(made)
        built.attach("mr1")
        yield built
