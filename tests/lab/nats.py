"""Two sites and a relay between them, each behind a router of a kind: the kernel's own translation.

The kinds are named in the words of RFC 4787. Sites that are routed have addresses of their own in
the middle, the others those of their routers.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.network import LabUnavailable, Network, network

__all__ = ["KINDS", "MEETS", "REACHABLE", "RELAY", "sites"]

RELAY = "203.0.113.1"
_OUTSIDE = {"alice": "203.0.113.5", "bob": "203.0.113.6"}

_STATEFUL = """
table ip site {
    chain in { type filter hook forward priority filter; iifname "relay" ct state new drop; }
}
"""
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
        iifname "OUT" tcp dport 1024-65535 dnat to HOST;
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
REACHABLE = frozenset({"open", "endpoint-independent"})
"""The kinds whose hosts others can dial."""
MEETS = frozenset(KINDS) - {"symmetric"}
"""The kinds of which two can meet: their mapping is the same for all destinations."""


def _is_routed(kind: str) -> bool:
    return kind in ("open", "stateful firewall")


def _site(net: Network, name: str, kind: str, number: int) -> None:
    """Put a host behind a router of a kind. What is routed has an address of its own in the middle;
    behind two translations the inner router is a home's, and the outer one a carrier's."""
    outside, router = _OUTSIDE[name], f"{name}-router"
    net.host(name, router)
    net.link(router, [f"{outside}/24"], "relay", [])
    net["relay"].ip(f"link set {router} master middle")
    inner = router
    if kind == "double NAT":
        inner = f"{name}-home"
        net.host(inner)
        net.link(router, ["100.64.0.1/24"], inner, ["100.64.0.2/24"])
        net[inner].ip("route add default via 100.64.0.1")
        net[inner].forward()
        net[inner].run("nft", "-f", "-", given=_masquerade(out=router))
    base = f"198.51.100.{16 * number}" if _is_routed(kind) else f"192.168.{50 + number}.0"
    network_of, _, first = base.rpartition(".")
    gateway, host = f"{network_of}.{int(first) + 1}", f"{network_of}.{int(first) + 2}"
    net.link(inner, [f"{gateway}/28"], name, [f"{host}/28"])
    net[name].ip(f"route add default via {gateway}")
    net[router].forward()
    if rules := KINDS[kind]:
        net[router].run("nft", "-f", "-", given=rules.replace("HOST", host))
    if _is_routed(kind):
        net["relay"].ip(f"route add {base}/28 via {outside}")


@contextmanager
def sites(alice: str, bob: str) -> Iterator[Network]:
    """Make a relay in the middle, and a site of each kind, with one host each.

    Raises:
        LabUnavailable: the tools or the rights are missing.
    """
    if shutil.which("nft") is None:
        raise LabUnavailable("not installed: nft (nftables)")
    with network() as net:
        net.host("relay")
        net["relay"].ip("link add middle type bridge", "link set middle up")
        net["relay"].ip(f"address add {RELAY}/24 dev middle")
        for number, (name, kind) in enumerate((("alice", alice), ("bob", bob))):
            _site(net, name, kind, number)
        net["relay"].forward()
        for name, other in (("alice", "bob"), ("bob", "alice")):
            kind = alice if other == "alice" else bob
            if _is_routed(kind):
                base = f"198.51.100.{0 if other == 'alice' else 16}"
                net[f"{name}-router"].ip(f"route add {base}/28 via {_OUTSIDE[other]}")
        yield net
