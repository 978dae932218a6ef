"""docs/scaling.md says how two nodes on two machines are run: its very words, at two addresses."""

import asyncio
import contextlib
import re
import shlex
from pathlib import Path

from peers import Identity, Mode, Peer
from relay.place import make_key
from tests.cluster.nats import TIMEOUT, NatsServer
from tests.cluster.test_failover import numbered
from tests.relay.client import client
from tests.support import processes
from tests.support.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def words(nats: NatsServer, key: Path, port: int) -> tuple[list[list[str]], str, str]:
    """Return the two commands, the configuration of the first node, and what peers are told."""
    text = PAGE.read_text().partition("## Two nodes on two machines")[2].partition("\n## ")[0]
    for documented, here in (
        ("192.0.2.3:4222", f"127.0.0.1:{nats.port}"),
        ("192.0.2.1", "127.0.0.1"),
        ("192.0.2.2", "127.0.0.2"),
        ("8440", str(port)),
        ("/etc/roam-relay/relay.key", str(key)),
    ):
        assert documented in text
        text = text.replace(documented, here)
    commands, toml = re.findall(r"```(?:toml)?\n(.*?)```", text, re.DOTALL)
    found = re.search(r'\(`relay = "([^"]*)"`\)', text.replace("\n", ""))
    assert found is not None
    return [shlex.split(line) for line in commands.splitlines()], toml, found[1]


async def test_two_nodes_as_documented(nats: NatsServer, tmp_path: Path) -> None:
    port = free_port()
    make_key(str(tmp_path / "relay.key"))
    commands, toml, urls = words(nats, tmp_path / "relay.key", port)
    second = toml.replace('node = "a"', 'node = "b"').replace(
        f"127.0.0.1:{port}", f"127.0.0.2:{port}"
    )
    with contextlib.ExitStack() as stack:
        for command, text in zip(commands, (toml, second), strict=True):
            assert command[:2] == ["relay", "serve"]
            name = command[command.index("--config") + 1]
            (tmp_path / name).write_text(text)
            flags = [str(tmp_path / one) if one == name else one for one in command[2:]]
            state = str(tmp_path / f"{name}.state")
            more = ("--port", str(port), "--state", state, "--drain-timeout", "0")
            stack.enter_context(processes.relay(tmp_path, *flags, *more))
        async with asyncio.timeout(2 * TIMEOUT):
            told: set[str] = set()
            while told != set(urls.split(",")):
                async with client(urls.partition(",")[0]) as one:
                    told = {node.url for node in (await one.register()).nodes}
            async with (
                Peer(Identity.generate(), urls.partition(",")[0]) as alice,
                Peer(Identity.generate(), urls.partition(",")[2]) as bob,
                Peer(Identity.generate(), urls) as carol,
            ):
                listener = alice.listen("chat")
                for caller in (bob, carol):
                    here = await caller.connect(alice.guid, "chat", mode=Mode.AUTO, wait=True)
                    there = await anext(listener)
                    await asyncio.gather(numbered(here, there, 0, 20), numbered(there, here, 0, 20))
                    await here.close()
