"""Strangers who make a peer dial a host behind it, between network namespaces: SYNs are counted
where they arrive, by nftables there.

    stranger ── relay ── peer ── victim

The victim refuses, or says nothing; for the peer its addresses are anybody's.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.attacks.scene import ATTACKS, BESIDE, PRIVATE, PUBLIC, RELAY, STRANGER
from tests.lab.network import LabUnavailable, Network, network

__all__ = ["ATTACKS", "Row", "attacked", "lab", "table"]

_QUIET = 5.0
"""Seconds without a SYN after which an attack has had what it gets: what is told lasts three, and
a SYN that stays unanswered is repeated after one and three."""
_LONGEST = 60.0
_RULES = """
table inet count {{
  counter syns {{ }}
  chain arriving {{
    type filter hook prerouting priority -300;
    {where} tcp flags & (syn | ack) == syn counter name syns
    {drop}
  }}
}}
"""


@dataclass(frozen=True)
class Row:
    """One attack, and the SYNs that have arrived."""

    attack: str
    refused: int
    """Where the victim refuses."""
    silent: int
    """Where it says nothing: each is counted as often as it was repeated."""


@contextlib.contextmanager
def lab() -> Iterator[Network]:
    """Make the network.

    Raises:
        LabUnavailable: the tools or the rights are missing.
    """
    if shutil.which("nft") is None:
        raise LabUnavailable("not installed: nft (nftables)")
    with network() as net:
        net.host("relay", "peer", "stranger", "victim")
        net.link("peer", ["192.0.2.2/24"], "relay", [f"{RELAY}/24"])
        net.link("stranger", [f"{STRANGER}/24"], "relay", ["198.51.100.1/24"])
        net.link(
            "victim",
            [f"{PRIVATE}/24", *(f"{host}/24" for host in PUBLIC), "2001:db8:77::9/64"],
            "peer",
            ["10.77.0.1/24", "203.0.113.1/24", "2001:db8:77::1/64"],
        )
        for host in ("relay", "peer"):
            net[host].forward()
        net["peer"].ip("route add default via 192.0.2.1")
        net["stranger"].ip("route add default via 198.51.100.1")
        net["relay"].ip("route add 203.0.113.0/24 via 192.0.2.2")
        net["victim"].ip("route add default via 10.77.0.1")
        # Whatever holds an IPv4 address leads there too, as where a network translates.
        for prefix in ("64:ff9b::/96", "2002::/16"):
            net["peer"].ip(f"route add {prefix} via 2001:db8:77::9", version=6)
            net["victim"].ip(f"route add local {prefix} dev lo", version=6)
        net["victim"].ip("route add default via 2001:db8:77::1", version=6)
        yield net


def attacked(net: Network, attack: str, *, silent: bool) -> int:
    """Let a stranger do something; return how many SYNs have arrived at the victim, which is
    somebody beside the stranger where that is whom it names."""
    is_beside = "beside" in attack
    victim = net["stranger" if is_beside else "victim"]
    ports = ", ".join(map(str, BESIDE))
    where = f"tcp dport {{ {ports} }}" if is_beside else ""
    drop = f"{where} tcp flags & (syn | ack) == syn drop" if silent else ""
    victim.run("nft", "-f", "-", given=_RULES.format(where=where, drop=drop))
    pids = [str(net[name].pid) for name in ("relay", "peer", "stranger")]
    command = net["relay"].lasting(sys.executable, "-m", "tests.attacks.scene", attack, *pids)
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as scene:
            assert scene.stdin is not None
            assert scene.stdout is not None
            if scene.stdout.readline() != "begins\n":
                scene.kill()
                raise RuntimeError(f"{attack}: {scene.communicate()[1]}")
            seen, since = 0, time.monotonic()
            began = since
            # What is waited for is that nothing happens.
            while time.monotonic() - since < _QUIET and time.monotonic() - began < _LONGEST:
                time.sleep(0.1)
                now = _syns(victim)
                if now != seen:
                    seen, since = now, time.monotonic()
            said, errors = scene.communicate(timeout=_LONGEST)
            if scene.returncode:
                raise RuntimeError(f"{attack}: {said} {errors}")
        return _syns(victim)
    finally:
        victim.run("nft", "delete", "table", "inet", "count")


def table(rows: list[Row]) -> list[str]:
    """Return lines of a table in Markdown."""
    lines = ["| attack | SYNs at a victim that refuses | that is silent |", "| --- | --- | --- |"]
    return lines + [f"| {row.attack} | {row.refused} | {row.silent} |" for row in rows]


def _syns(victim: object) -> int:
    listed = victim.run("nft", "-j", "list", "counters", "table", "inet", "count")  # type: ignore[attr-defined]
    found = json.loads(listed)["nftables"]
    return sum(one["counter"]["packets"] for one in found if "counter" in one)
