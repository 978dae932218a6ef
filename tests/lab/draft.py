"""The draft's network: mobile routers MR1 and MR2, the mobile node MN1, correspondents, a server.

    CN1 ─┐         ┌─ MR1 ─┐
    CN3 ─┼─ core ──┤   │   ├─ MN1 (at one of them, or both)
    server ┘       └─ MR2 ─┘

IP1 is the address of MN1 at MR1, IP2 at MR2. While MN1 is at MR2 with the anchor on, IP1 is still
routed to it through MR1 and MR2: host routes stand in for the mobility tunnel. CN3 can move too, to
MR3. Where IPv6 is on, 10.1.0.10 is 2001:db8:1::10 as well, and so each of them.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from tests.lab.links import Link
from tests.lab.network import Network, network

__all__ = [
    "CN3_AT_MR3",
    "IP1",
    "IP2",
    "NAMES",
    "SERVER",
    "Draft",
    "Links",
    "access",
    "draft",
    "six",
]

IP1, IP2, SERVER = "10.1.0.10", "10.2.0.10", "10.9.0.2"
CN3_AT_MR3 = "10.5.0.10"

_NUMBER = {"mr1": 1, "mr2": 2}
"""The network of each mobile router, and the routing table of MN1 for what comes from there."""

Links = dict[tuple[str, str], Link]
"""The links that are not a veth pair, by the hosts that they join."""


def six(address: str) -> str:
    """Return the IPv6 address of a host that has this IPv4 address here."""
    _, network_number, _, host = address.split(".")
    return f"2001:db8:{network_number}::{host if host != '0' else ''}"


NAMES = {IP1: "IP1", IP2: "IP2", SERVER: "server", CN3_AT_MR3: "CN3"}
NAMES |= {six(address): f"{label} (IPv6)" for address, label in NAMES.items()}
"""What the draft calls an address."""


def access(delay_ms: float) -> Links:
    """Return both of MN1's links with this delay one way; all others take no time, so that twice
    this is the round trip between MN1 and everybody else, the relay among them."""
    return {(router, "mn1"): Link(delay_ms=delay_ms) for router in ("mr1", "mr2")}


class Draft:
    """The network, and where MN1 is in it."""

    def __init__(self, made: Network, links: Links | None = None, versions: Sequence[int] = (4,)):
        self.net = made
        self.versions = tuple(versions)
        self.at: tuple[str, ...] = ()
        """The routers that MN1 is at; the last one has its default route."""
        self.anchored = False
        """Whether IP1 leads to MN1 at MR2."""
        self.caller_moved = False
        self.changed: Callable[[], None] = lambda: None
        """Called after every change, for who draws."""
        self._links = links or {}
        made.host("core", "mr1", "mr2", "mr3", "mn1", "cn1", "cn3", "server")
        for router in ("core", "mr1", "mr2", "mr3"):
            made[router].forward()
        for name, number in (("mr1", 101), ("mr2", 102), ("mr3", 103)):
            self._join("core", name, number)
            made[name].ip(*self._for_each("route add default via {}", f"10.{number}.0.1"))
        self._join("mr1", "mr2", 12)
        for name, number in (("cn1", 3), ("cn3", 4), ("server", 9)):
            self._join("core", name, number)
            made[name].ip(*self._for_each("route add default via {}", f"10.{number}.0.1"))
        for router, other, number in (("mr1", "mn1", 1), ("mr2", "mn1", 2), ("mr3", "cn3", 5)):
            self._join(router, other, number, far=False)
            made[other].ip(f"link set {router} down")
            made["core"].ip(
                *self._for_each(
                    "route add {}/{net} via {}", f"10.{number}.0.0", self._behind(router)
                )
            )
        # What comes from an address of MN1 leaves over the network of that address.
        for number, address in ((1, IP1), (2, IP2)):
            self._rule("mn1", f"rule add from {{}} table {number}", address)

    def _behind(self, router: str) -> str:
        return {"mr1": "10.101.0.2", "mr2": "10.102.0.2", "mr3": "10.103.0.2"}[router]

    def _for_each(
        self, line: str, *addresses: str, versions: Iterable[int] | None = None
    ) -> list[str]:
        """Return the line for each IP version; `{net}` and `{host}` are prefix lengths."""
        lines = []
        for version in versions or self.versions:
            given = addresses if version == 4 else [six(address) for address in addresses]
            net, host = (24, 32) if version == 4 else (64, 128)
            lines.append(line.format(*given, net=net, host=host))
        return lines

    def _rule(self, name: str, line: str, *addresses: str) -> None:
        for version in self.versions:
            lines = self._for_each(line, *addresses, versions=[version])
            self.net[name].ip(*lines, version=version)

    def _join(self, one: str, other: str, number: int, *, far: bool = True) -> None:
        near = self._for_each("{}/{net}", f"10.{number}.0.1")
        there = self._for_each("{}/{net}", f"10.{number}.0.2") if far else []
        self.net.link(one, near, other, there, self._links.get((one, other)))

    # -- what MN1 does --------------------------------------------------------------------------

    def _attaching(self, router: str, versions: Iterable[int] | None = None) -> list[str]:
        number = _NUMBER[router]
        own, gateway = f"10.{number}.0.10", f"10.{number}.0.1"
        default = f"route replace default via {{}} dev {router}"
        return [
            f"link set {router} up",
            *self._for_each(f"address replace {{}}/{{net}} dev {router}", own, versions=versions),
            *self._for_each(default, gateway, versions=versions),
            *self._for_each(f"{default} table {number}", gateway, versions=versions),
        ]

    @staticmethod
    def _detaching(router: str) -> list[str]:
        return [f"address flush dev {router}", f"link set {router} down"]

    def attach(
        self, router: str, *, versions: Iterable[int] | None = None, route_after: float = 0.0
    ) -> None:
        """MN1 comes to a router and gets an address there; its traffic leaves there now. `versions`
        are those of the addresses, where the network has not all. Routes come so many seconds after
        the addresses, as they do from a DHCP client."""
        steps = self._attaching(router, versions)
        routes = [step for step in steps if step.startswith("route")] if route_after else []
        self.net["mn1"].ip(*(step for step in steps if step not in routes))
        if routes:
            time.sleep(route_after)
            self.net["mn1"].ip(*routes)
        self._is_at(*(other for other in self.at if other != router), router)

    def detach(self, router: str) -> None:
        """MN1 leaves a router: the link is gone, and its address with it."""
        self.net["mn1"].ip(*self._detaching(router))
        self._is_at(*(other for other in self.at if other != router))

    def move(self, here: str, there: str, *, versions: Iterable[int] | None = None) -> None:
        """MN1 leaves a router and comes to another one in the same moment."""
        self.net["mn1"].ip(*self._detaching(here), *self._attaching(there, versions))
        self._is_at(there)

    def also(self, router: str) -> None:
        """MN1 comes to a second router; its default route stays where it is."""
        (stays,) = self.at
        self.net["mn1"].ip(
            *self._attaching(router),
            *self._for_each("route replace default via {}", f"10.{_NUMBER[stays]}.0.1"),
        )
        self._is_at(router, stays)

    def anchor(self, *, preferred: bool = False) -> None:
        """MN1, which is at MR1, moves to MR2 and keeps IP1 there, for what uses it already.

        With `preferred` IP1 is as good as any other address, as the kernel sees it, and only its
        way is longer.
        """
        lifetime = "" if preferred else " preferred_lft 0"
        self.net["mn1"].ip(
            *self._for_each(f"address add {{}}/{{host}} dev lo{lifetime}", IP1),
            *self._attaching("mr2"),
            *self._for_each("route replace default via {} dev mr2 table 1", "10.2.0.1"),
        )
        self.net["mr2"].ip(*self._for_each("route replace {}/{host} via {}", IP1, IP2))
        self.net["mr1"].ip(*self._for_each("route replace {}/{host} via {}", IP1, "10.12.0.2"))
        self.net["mn1"].ip(*self._detaching("mr1"))
        self.anchored = True
        self._is_at("mr2")

    def end_anchor(self) -> None:
        """IP1 is not routed to MN1 any more."""
        for router in ("mr1", "mr2"):
            self.net[router].ip(*self._for_each("route del {}/{host}", IP1))
        self.net["mn1"].ip(*self._for_each("address del {}/{host} dev lo", IP1))
        self.anchored = False
        self.changed()

    # -- what others do -------------------------------------------------------------------------

    def silence(self, router: str) -> None:
        """A router drops everything, and tells nobody."""
        self.net[router].forward(False)

    def move_caller(self, host: int = 10) -> None:
        """CN3 comes to MR3 with this host number, from its own network or from another number."""
        self.net["cn3"].ip(
            "address flush dev core",
            "link set core down",
            "link set mr3 up",
            "address flush dev mr3 scope global",
            *self._for_each("address add {}/{net} dev mr3", f"10.5.0.{host}"),
            *self._for_each("route replace default via {}", "10.5.0.1"),
        )
        self.caller_moved = True
        self.changed()

    def filter(self, address: str) -> None:
        """Nothing passes between the network of a correspondent and those of MN1."""
        subnet = address.rpartition(".")[0] + ".0"
        for there in ("10.1.0.0", "10.2.0.0"):
            self._rule("core", "rule add from {}/{net} to {}/{net} blackhole", subnet, there)

    def _is_at(self, *routers: str) -> None:
        self.at = routers
        self.changed()


@contextlib.contextmanager
def draft(links: Links | None = None, versions: Sequence[int] = (4,)) -> Iterator[Draft]:
    """Build it, with MN1 at MR1; nothing of it is left afterwards.

    Raises:
        LabUnavailable: this machine cannot.
    """
    with network() as made:
        built = Draft(made, links, versions)
        built.attach("mr1")
        yield built
