"""What the operator's commands print of a relay of which a process did not answer."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.operator import (
    Answer,
    Asked,
    LocalDoor,
    NodeShown,
    Peers,
    PeerShown,
    PeersShown,
    ProcessShown,
    Status,
    StatusShown,
    TopShown,
)

SILENT = ("node-2",)
PEERS = PeersShown(1, (PeerShown("a" * 52, (), ("chat",), 0.0, None),), SILENT)
STATUS = StatusShown(
    *("g" * 52, (), ("http://127.0.0.1:8440",), (), False, "open", None, 0.0, {}, 1, 1, 0),
    nodes=(NodeShown("node-1", True, registered=1), NodeShown("node-2", False)),
)
TOP = TopShown(1.0, {}, ProcessShown(0.0, 1, 1, 1, 0.0), 0.0, *[0] * 8, peers=(), silent=SILENT)


class _Relay:
    def turned_away(self) -> None:
        raise AssertionError("it is asked once")

    async def do(self, asked: Asked) -> Answer:
        return PEERS if isinstance(asked, Peers) else STATUS if isinstance(asked, Status) else TOP


@contextlib.contextmanager
def asked_at(path: str) -> Iterator[None]:
    """Open a relay's door in a thread: the commands have the main one, for their signals."""
    is_open, is_over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        door = LocalDoor(path, _Relay())
        await door.open()
        is_open.set()
        await is_over.wait()
        await door.close()

    with asyncio.Runner() as runner:
        thread = threading.Thread(target=runner.run, args=(serve(),))
        loop = runner.get_loop()
        thread.start()
        try:
            assert is_open.wait(60)
            yield
        finally:
            loop.call_soon_threadsafe(is_over.set)
            thread.join()


@pytest.mark.parametrize(
    ("words", "printed", "warned"),
    [
        (("peers",), "a" * 52, "node-2 does not answer: who is there is not shown\n"),
        (("peers", "--json"), '"silent":["node-2"]', ""),
        (("status",), "node-2        does not answer\n", ""),
        (("top",), "node-2 does not answer: what is there is not counted here\n", ""),
        (("top", "--json"), '"silent":["node-2"]', ""),
    ],
)
def test_it_is_named(tmp_path: Path, words: tuple[str, ...], printed: str, warned: str) -> None:
    with asked_at(str(tmp_path / "operator.sock")):
        done = CliRunner().invoke(main, [*words, "--state", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert printed in done.stdout
    assert done.stderr == warned
