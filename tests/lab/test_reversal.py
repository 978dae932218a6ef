"""Who can be dialed is dialed, whichever side has asked: one side in an open network, the other one
behind a NAT that lets nobody in, both ways round."""

import os
from pathlib import Path

import pytest

from tests.lab.nats import RELAYS, sites
from tests.lab.network import LabUnavailable
from tests.lab.programs import Commands

_CLOSED = ("port-restricted", "symmetric")
_PAIRS = [
    *((mode, "open", closed) for mode in ("combined", "auto") for closed in _CLOSED),
    *((mode, closed, "open") for mode in ("p2p", "combined", "auto") for closed in _CLOSED),
]
"""Modes, with the caller's network and the callee's. In `p2p` the callee is not asked, and so does
not dial: a caller in an open network finds nobody there."""


def talk(mode: str, alice: str, bob: str, folder: Path) -> None:
    with sites(alice, bob) as net:
        commands = Commands(folder, RELAYS[4])
        with commands.relay(net["relay"]), commands.listen(net["bob"], "--echo") as (guid, _):
            caller = commands.connect(net["alice"], guid, mode)
            try:
                caller.write("hello")
                caller.until("hello", caller.out)
                # In `combined` without the relay, in `auto` as soon as the callee has dialed.
                caller.until(" direct, ", caller.errors)
                caller.write("directly")
                caller.until("directly", caller.out)
            finally:
                caller.close()


@pytest.mark.nightly
@pytest.mark.parametrize(("mode", "alice", "bob"), _PAIRS)
def test_one_open_side_is_enough(mode: str, alice: str, bob: str, tmp_path: Path) -> None:
    try:
        talk(mode, alice, bob, tmp_path)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))


@pytest.mark.nightly
def test_in_p2p_nobody_asks_the_callee_to_dial(tmp_path: Path) -> None:
    try:
        with sites("open", "port-restricted") as net:
            commands = Commands(tmp_path, RELAYS[4])
            with commands.relay(net["relay"]), commands.listen(net["bob"]) as (guid, _):
                caller = commands.connect(net["alice"], guid, "p2p")
                try:
                    assert caller.process.wait(60) == 9, "no path, and it says so"
                finally:
                    caller.close()
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
