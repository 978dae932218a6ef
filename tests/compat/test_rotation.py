"""A relay that has changed its key, and peers of both versions that know it by the old one."""

from pathlib import Path

import pytest

from peers.control.pin import Pin
from relay.key_file import read_key
from relay.rotation import rotate
from tests.compat.children import Command, Relay
from tests.compat.past import NEW, OLD
from tests.compat.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_peers_of_both_versions_go_on_by_the_key_that_they_pin(
    world: World, tmp_path: Path
) -> None:
    """For the old one it is the relay that it was; the new one learns what it is now. An old peer
    that pins the new key is what an operator must not have before the period ends."""
    file = world.config("relay with another key")
    key = str(file.parent / "relay.key")
    before = read_key(key).guid
    _, now = rotate(key, 3600)
    for version in (OLD, NEW):
        (tmp_path / f"{version}.toml").write_text(f'relay_guid = "{before}"\n')

    def command(version: str, *words: str, exit_code: int = 0) -> Command:
        common = ("--config", str(tmp_path / f"{version}.toml"), "--relay", relay.url)
        own = ("--key", str(tmp_path / f"{version}.key"))
        return Command(world.trees[version], *common, *own, *words, "--json", exit_code=exit_code)

    relay = Relay(world.trees[NEW], file)
    async with world.running(relay):
        for caller, callee in ((OLD, NEW), (NEW, OLD)):
            listening = command(callee, "listen", "talk", "--echo", exit_code=130)
            async with world.running(listening):
                guid = (await listening.line())["guid"]
                ping = command(caller, "ping", guid, "talk", "--count", "1", "--mode", "central")
                async with world.running(ping):
                    assert await ping.line()
                    await ping.exit()
    learned = Pin(before, str(tmp_path / f"{NEW}.key.relay"))
    assert learned.guid == now.guid
    assert not (tmp_path / f"{OLD}.key.relay").exists()
