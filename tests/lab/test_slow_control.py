"""A control connection over a link that becomes slow: a queue that fills up, a satellite."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.links import ROOT, Link
from tests.lab.network import LabUnavailable, Network, network
from tests.lab.programs import Commands, Program
from tests.support.processes import environment

ROUND_TRIP = 7.0
RELAY = "10.77.0.1"


@pytest.fixture
def net() -> Iterator[Network]:
    """A relay's host and a peer's, with a link that takes a while."""
    try:
        with network() as made:
            made.host("relay", "far")
            made.link("relay", [f"{RELAY}/24"], "far", ["10.77.0.2/24"], Link(delay_ms=20))
            yield made
    except LabUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.nightly
def test_a_link_whose_round_trip_becomes_seven_seconds_keeps_its_control_connection(
    net: Network, tmp_path: Path
) -> None:
    commands = Commands(tmp_path, RELAY)

    def asked(guid: str) -> str:
        """Ask for a session from beside the relay; return what the command says."""
        words = commands.peer("near", "connect", guid, "chat", "--mode", "central")
        done = subprocess.run(
            net["relay"].lasting(sys.executable, "-m", *words),
            input="hello\n",
            capture_output=True,
            text=True,
            timeout=120,
            env=environment(),
            cwd=ROOT,
            check=False,
        )
        return done.stdout + done.stderr

    with commands.relay(net["relay"]):
        listens = Program(net["far"], *commands.peer("far", "-v", "listen", "chat", "--echo"))
        try:
            guid = listens.until("listening for chat as", listens.errors).split()[-1]
            listens.said()
            net.change("relay", "far", Link(delay_ms=ROUND_TRIP / 2 * 1e3))
            # Nobody knows yet how slow it is: the first to ask may hear that the peer says nothing.
            asked(guid)
            # Until what it has said after all is there, and the relay knows how long it takes.
            time.sleep(ROUND_TRIP)
            # A leg over such a link takes longer than a path may; the request itself is answered.
            assert "suspect" not in asked(guid)
            assert listens.process.poll() is None
            said = listens.said()
            assert "registered" not in said, said
        finally:
            listens.close()
