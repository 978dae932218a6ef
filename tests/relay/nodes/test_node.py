"""One of the processes, as its supervisor hears it."""

import subprocess
import sys

import msgspec

from relay.config import RelayConfig, Siblings
from relay.nodes import Assignment
from relay.nodes.reports import Alive, read
from tests.support import processes

SLOW = """
import asyncio
from relay.nodes import node

class Slow:
    def __init__(self, *_, **__):
        self.drain_asked = asyncio.Event()

    async def __aenter__(self):
        await asyncio.Event().wait()

    async def __aexit__(self, *_):
        pass

node.RelayServer = Slow
node.read_key = node.read_former = lambda *_: None
asyncio.run(node.serve_node(lambda config: None))
"""


def test_one_that_takes_long_to_start_lives() -> None:
    word = msgspec.json.encode(Assignment(RelayConfig(), Siblings(book=None))) + b"\n"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=processes.environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(word)
            process.stdin.flush()
            assert read(process.stdout.readline()) == Alive()
        finally:
            process.kill()
