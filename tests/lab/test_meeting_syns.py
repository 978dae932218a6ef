"""What one meeting costs who is dialed and says nothing, counted by the kernel there."""

import os
import subprocess
import sys

import pytest

from tests.lab.links import ROOT
from tests.lab.network import LabUnavailable, network
from tests.lab.programs import DEADLINE

_COUNT = """
table ip count {
    chain in { type filter hook input priority filter; tcp flags syn counter drop; }
}
"""
_MEET = """
import asyncio
from peers import PathFailed, PeerConfig
from peers.dialing import Ask, Door, Known, Reason
from peers.host import Interfaces
from protocol.endpoint import Endpoint

async def main():
    config = PeerConfig()
    at = Endpoint("198.51.100.2", 4000)
    ask = Ask("a" * 52, at, Known(frozenset({at}), may_ask=True), Reason.MEETING, None)
    try:
        await Door(config, Interfaces(config), 4000).meet(ask, "198.51.100.1")
    except PathFailed as error:
        print(error.reason)

asyncio.run(main())
"""


@pytest.mark.nightly
def test_a_meeting_is_five_syns_at_most() -> None:
    try:
        with network() as net:
            net.host("dials", "dialed")
            net.link("dials", ["198.51.100.1/24"], "dialed", ["198.51.100.2/24"])
            net["dialed"].run("nft", "-f", "-", given=_COUNT)
            said = subprocess.run(
                net["dials"].lasting(sys.executable, "-c", _MEET),
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                cwd=ROOT,
                check=True,
            ).stdout
            assert "nobody came" in said
            counted = net["dialed"].run("nft", "list", "table", "ip", "count")
            assert 4 <= int(counted.partition("packets ")[2].split()[0]) <= 5
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
