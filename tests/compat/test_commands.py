"""The `peer` command of one version with that of the other."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.compat.children import Command
from tests.compat.past import NEW, OLD
from tests.compat.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("relay", [OLD, NEW])
async def test_a_doctor_looks_at_a_relay(world: World, tmp_path: Path, relay: str) -> None:
    """One of before cannot be asked to dial this host, and says all the rest."""
    common = ("--relay", world.relays[relay].url, "--key", str(tmp_path / "a.key"))
    doctor = Command(world.trees[NEW], *common, "doctor", "--json")
    found: dict[str, dict[str, object]] = {}
    async with world.running(doctor):
        while "kind" not in found:
            one = await doctor.line()
            found[one["about"]] = one
        await doctor.exit()
    assert found["mapping"]["mapping"] == "none"
    assert found["clock"]["level"] == "good"
    assert found["reachable"]["reachable"] is (None if relay == OLD else True)


@pytest.mark.parametrize(
    ("relay", "sending", "receiving", "mode"),
    [(NEW, OLD, NEW, "central"), (OLD, NEW, OLD, "combined")],
)
async def test_a_file_arrives_whole(
    world: World, tmp_path: Path, relay: str, sending: str, receiving: str, mode: str
) -> None:
    content = os.urandom((3 << 20) + 1)
    (tmp_path / "file").write_bytes(content)

    def command(version: str, *words: str) -> Command:
        common = ("--relay", world.relays[relay].url, "--key", str(tmp_path / f"{version}.key"))
        return Command(world.trees[version], *common, *words, "--json")

    receiver = command(receiving, "receive", str(tmp_path / "there"), "--once")
    async with world.running(receiver):
        guid = (await receiver.line())["guid"]
        sender = command(sending, "send", guid, str(tmp_path / "file"), "--mode", mode)
        async with world.running(sender):
            sent, received = await sender.line(), await receiver.line()
            await sender.exit()
            await receiver.exit()
    assert (sent["event"], received["event"], sent["mode"]) == ("sent", "received", mode)
    assert sent["sha256"] == received["sha256"] == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "there" / "file").read_bytes() == content
