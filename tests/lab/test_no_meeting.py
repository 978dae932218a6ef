"""Two sides that cannot meet, as one has a NAT that gives each destination another port: where
their relay has a second port they know it, and neither dials nor waits."""

import os
import re
from pathlib import Path

import pytest

from tests.lab.nats import RELAYS, sites
from tests.lab.network import LabUnavailable
from tests.lab.programs import Commands

_PAIRS = [
    ("symmetric", "stateful firewall", "this"),
    ("stateful firewall", "symmetric", "the other"),
]


@pytest.mark.nightly
@pytest.mark.parametrize("mode", ["auto", "combined"])
@pytest.mark.parametrize(("alice", "bob", "whose"), _PAIRS)
def test_who_cannot_meet_does_not_try(
    alice: str, bob: str, whose: str, mode: str, tmp_path: Path
) -> None:
    config = tmp_path / "relay.toml"
    config.write_text("observe_port = 8442\n")
    try:
        with sites(alice, bob) as net:
            commands = Commands(tmp_path, RELAYS[4])
            with (
                commands.relay(net["relay"], "--config", str(config)),
                commands.listen(net["bob"], "--echo") as (guid, _),
            ):
                said = commands.explain(net["alice"], guid, mode)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
    assert re.search(f"dropped .* {whose} side's NAT gives each destination another port", said)
    assert "relayed" in said
