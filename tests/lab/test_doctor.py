"""What `peer doctor` says behind routers of every kind: its words are those of docs/nat.md."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.lab.nats import RELAYS, sites
from tests.lab.network import LabUnavailable
from tests.lab.programs import Commands, Program

_KINDS = {
    "open": ("open", "none", True),
    "stateful firewall": ("stateful firewall", "none", False),
    "endpoint-independent": ("NAT that lets others in", "endpoint-independent", True),
    "port-restricted": ("port-restricted NAT", "endpoint-independent", False),
    "symmetric": ("symmetric NAT", "address-and-port-dependent", False),
    "double NAT": ("port-restricted NAT", "endpoint-independent", False),
}
"""By the router's kind: the word for the network, what its mapping depends on, and whether others
can dial a host behind it."""


def look(kinds: tuple[str, str], names: tuple[str, ...], folder: Path) -> list[dict[str, Any]]:
    """Return what a doctor says at these of both sites, by what it is about."""
    config = folder / "relay.toml"
    # Addresses of documentation are dialed by no relay on the Internet.
    config.write_text('observe_port = 8442\nproof_networks = "198.51.100.0/24, 203.0.113.0/24"\n')
    said = []
    with sites(*kinds) as net:
        commands = Commands(folder, RELAYS[4])
        with commands.relay(net["relay"], "--config", str(config)):
            for name in names:
                doctor = Program(net[name], *commands.peer(name, "doctor", "--json"))
                try:
                    found: dict[str, Any] = {}
                    while "kind" not in found:
                        one = json.loads(doctor.until("{", doctor.out))
                        found[one["about"]] = one
                    said.append(found)
                    assert doctor.process.wait(20) == 0
                finally:
                    doctor.close()
    return said


def judge(kinds: tuple[str, str], names: tuple[str, ...], folder: Path) -> None:
    try:
        said = look(kinds, names, folder)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
    for kind, found in zip(kinds, said, strict=False):
        word, mapping, reachable = _KINDS[kind]
        assert found["kind"]["networks"] == {"IPv4": word}, found
        assert found["mapping"]["mapping"] == mapping
        assert found["reachable"]["reachable"] is reachable


def test_it_knows_a_nat_that_gives_each_destination_another_port(tmp_path: Path) -> None:
    judge(("symmetric", "open"), ("alice",), tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "kinds",
    [
        ("open", "stateful firewall"),
        ("endpoint-independent", "double NAT"),
        ("port-restricted",) * 2,
    ],
)
def test_and_all_other_kinds(kinds: tuple[str, str], tmp_path: Path) -> None:
    judge(kinds, ("alice", "bob"), tmp_path)
