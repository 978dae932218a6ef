"""The notebook of examples/, cell by cell, as IPython runs it: one loop, and `await` in each."""

import ast
import asyncio
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peers import ConnectionClosed, Identity, LinkState, Peer, UsageError
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.processes import relay

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


def cells() -> Iterator[tuple[str, str]]:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            yield cell["id"], "".join(cell["source"])


async def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line, where it has one."""
    body = ast.parse(source)
    if isinstance(body.body[-1], ast.Expr):
        last = body.body[-1]
        body.body[-1] = ast.Assign([ast.Name("_", ast.Store())], last.value)
        ast.fix_missing_locations(body)
    names.pop("_", None)
    result = eval(
        compile(body, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True),
        names,
    )
    if inspect.isawaitable(result):
        await result
    return names.get("_")


async def test_every_cell_runs_in_the_loop_of_the_notebook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with relay(tmp_path) as (url, _):
        async with asyncio.timeout(60):
            names: dict[str, Any] = {}
            before = asyncio.all_tasks()
            shown = {
                name: await run(source.replace("http://127.0.0.1:8440", url), names)
                for name, source in cells()
            }
            assert shown["open"] is LinkState.REGISTERED
            assert (shown["ask"], shown["blocking"]) == (b"hello", b"from carol")
            assert "because" in capsys.readouterr().out
            while asyncio.all_tasks() != before:
                await asyncio.sleep(0.01)
            assert names["alice"].status.state is LinkState.CLOSED
            # A cell that is run again says what it needs, and nothing hangs.
            with pytest.raises(ConnectionClosed, match="make another one"):
                await run("await alice.start()", names)
            with pytest.raises(ConnectionClosed, match="make another one"):
                await run("await bob.connect(alice.guid, 'chat')", names)


async def test_a_loop_within_a_loop_is_told_what_to_do() -> None:
    """As in a notebook whose own loop runs: a peer of it used by the loop of a thread."""
    async with RelayServer(RelayConfig(port=0)) as server:
        alice = await Peer(Identity.generate(), server.url).start()

        def in_another_loop() -> None:
            asyncio.run(alice.close())

        with pytest.raises(UsageError, match="run_coroutine_threadsafe"):
            await asyncio.to_thread(in_another_loop)
        await alice.close()
