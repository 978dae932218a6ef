"""Two sites and a relay between them, each behind a router of a kind: the kernel's own translation.

The kinds are named in the words of RFC 4787. Sites that are routed have addresses of their own in
the middle, the others those of their routers.
"""

import ipaddress
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.network import LabUnavailable, Network, network

__all__ = ["KINDS", "KINDS_OF", "MEETS", "REACHABLE", "RELAYS", "sites"]

RELAYS = {4: "203.0.113.1", 6: "2001:db8::1"}
"""The relay's address of each version."""
_OUTSIDE = {
    4: {"alice": "203.0.113.5", "bob": "203.0.113.6"},
    6: {"alice": "2001:db8::5", "bob": "2001:db8::6"},
}

_STATEFUL = """
table inet site {
    chain in { type filter hook forward priority filter; iifname "relay" ct state new drop; }
}
"""
"""It lets in what answers, and what finds neighbors, which is nobody's connection."""
_MASQUERADE = """
table ip site {
    chain out { type nat hook postrouting priority srcnat; oifname "OUT" masquerade HOW; }
    chain in { type filter hook forward priority filter; iifname "OUT" ct state new drop; }
    chain own { type filter hook input priority filter; iifname "OUT" ct state new drop; }
}
"""
"""As RFC 5382 asks (REQ-4), what nobody has sent for is dropped, and not refused."""


_CONE = """
table ip site {
    chain out { type nat hook postrouting priority srcnat; oifname "OUT" masquerade; }
    chain back {
        type nat hook prerouting priority dstnat;
        iifname "OUT" meta l4proto { tcp, udp } th dport 1024-65535 dnat to HOST;
    }
}
"""


def _masquerade(how: str = "", out: str = "relay") -> str:
    return _MASQUERADE.replace("HOW", how).replace("OUT", out)


KINDS = {
    "open": "",
    "stateful firewall": _STATEFUL,
    "endpoint-independent": _CONE.replace("OUT", "relay"),
    "port-restricted": _masquerade(),
    "symmetric": _masquerade("random,fully-random"),
    "double NAT": _masquerade(),
}
"""What the router of a site filters and translates. `endpoint-independent` lets in whoever comes to
a port that it may have given out, for its one host. Linux keeps a source's port where it is free,
and lets in only what answers: `port-restricted` and `double NAT` map by the endpoint, and filter by
address and port; `symmetric` maps by address and port too."""
KINDS_OF = {4: tuple(KINDS), 6: ("open", "stateful firewall")}
"""The kinds that there are of each version: nothing is translated in IPv6."""
REACHABLE = frozenset({"open", "endpoint-independent"})
"""The kinds whose hosts others can dial."""
MEETS = frozenset(KINDS) - {"symmetric"}
"""The kinds of which two can meet: their mapping is the same for all destinations."""


_LENGTHS = {4: 24, 6: 64}
"""Of the network in the middle."""
_PRIVATE = {"alice": "192.168.50.0/28", "bob": "192.168.51.0/28"}


def _is_routed(kind: str) -> bool:
    return kind in ("open", "stateful firewall")


def _routed(name: str, version: int) -> str:
    """Return the network of a routed site without its end, and how long it is."""
    number = list(_OUTSIDE[version]).index(name)
    return f"198.51.100.{16 * number}/28" if version == 4 else f"2001:db8:{number + 1}::/64"


def _site(net: Network, name: str, kind: str, version: int) -> None:
    """Put a host behind a router of a kind. What is routed has an address of its own in the middle;
    behind two translations the inner router is a home's, and the outer one a carrier's."""
    outside, router = _OUTSIDE[version][name], f"{name}-router"
    net.host(name, router)
    net.link(router, [f"{outside}/{_LENGTHS[version]}"], "relay", [])
    net["relay"].ip(f"link set {router} master middle")
    inner = router
    if kind == "double NAT":
        inner = f"{name}-home"
        net.host(inner)
        net.link(router, ["100.64.0.1/24"], inner, ["100.64.0.2/24"])
        net[inner].ip("route add default via 100.64.0.1")
        net[inner].forward()
        net[inner].run("nft", "-f", "-", given=_masquerade(out=router))
    site = _routed(name, version) if _is_routed(kind) else _PRIVATE[name]
    gateway, host = (ipaddress.ip_network(site)[number] for number in (1, 2))
    length = site.partition("/")[2]
    net.link(inner, [f"{gateway}/{length}"], name, [f"{host}/{length}"])
    net[name].ip(f"route add default via {gateway}")
    net[router].forward()
    if rules := KINDS[kind]:
        net[router].run("nft", "-f", "-", given=rules.replace("HOST", str(host)))
    if _is_routed(kind):
        net["relay"].ip(f"route add {site} via {outside}")


@contextmanager
def sites(alice: str, bob: str, version: int = 4) -> Iterator[Network]:
    """Make a relay in the middle, and a site of each kind, with one host each: of this version of
    IP alone.

    Raises:
        LabUnavailable: the tools or the rights are missing.
    """
    if shutil.which("nft") is None:
        raise LabUnavailable("not installed: nft (nftables)")
    with network() as net:
        net.host("relay")
        net["relay"].ip("link add middle type bridge", "link set middle up")
        net["relay"].ip(f"address add {RELAYS[version]}/{_LENGTHS[version]} dev middle")
        kinds = {"alice": alice, "bob": bob}
        for name, kind in kinds.items():
            _site(net, name, kind, version)
        net["relay"].forward()
        for name, other in (("alice", "bob"), ("bob", "alice")):
            if _is_routed(kinds[other]):
                way = f"{_routed(other, version)} via {_OUTSIDE[version][other]}"
                net[f"{name}-router"].ip(f"route add {way}")
        yield net
