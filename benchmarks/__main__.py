"""`python -m benchmarks`: a table on the terminal, or JSON."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import (
    apart,
    bulk,
    choice,
    conversations,
    gap,
    growth,
    letters,
    messages,
    names,
    nodes,
    peers,
    proofs,
    sessions,
    setup,
    signaling,
    standby,
    throughput,
)
from benchmarks.growth_chart import chart
from benchmarks.measure import Row, median_rows, nats_server, relay_server, websocket_server
from peers import Mode

_PARTS = (
    "signaling",
    "peers",
    "growth",
    "proofs",
    "sessions",
    "standby",
    "bulk",
    "messages",
    "conversations",
    "letters",
    "apart",
    "gap",
    "setup",
    "names",
    "nodes",
)

_STANDING = 200
"""Sessions with a second path, at most: each needs six descriptors."""


def _run(work: Callable[[], Awaitable[list[Row]]]) -> list[Row]:
    async def run() -> list[Row]:
        return await work()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _signaling(round_trips: int, before: Path | None) -> list[Row]:
    async def run() -> list[Row]:
        rows = []
        for kind, name, serving in peers.contenders(before):
            with serving() as server:
                rows += await signaling.measure_forwarding(kind, name, server, round_trips)
        return rows

    return _run(run)


def _peers(counts: tuple[int, ...], seconds: float, before: Path | None) -> list[Row]:
    async def run() -> list[Row]:
        rows = []
        for many in dict.fromkeys(min(one, peers.most_peers()) for one in counts):
            for kind, name, serving in peers.contenders(before):
                with serving() as server:
                    rows += await peers.measure_peers(kind, name, server, many, seconds)
            for name, path in (("roam-relay, raw carrier", None), ("before, raw carrier", before)):
                if path is not None or name.startswith("roam"):
                    rows += await peers.measure_turns("raw", name, path, many)
        return rows

    rows = peers.measure_start("roam-relay, raw carrier")
    if before is not None:
        rows += peers.measure_start("before, raw carrier", before)
    return rows + _run(run)


def _growth(counts: tuple[int, ...], injected: int, seconds: float, trips: int) -> list[Row]:
    live = {min(one, growth.most_live()) for one in counts}
    name = "roam-relay, raw carrier"
    rows = _run(lambda: growth.measure_live(name, live, seconds, trips))
    return rows + _run(lambda: growth.measure_injected(name, injected, trips))


def _proofs(many: int, before: Path | None) -> list[Row]:
    async def run() -> list[Row]:
        rows = []
        for name, path in (("roam-relay", None), ("before", before)):
            if path is not None or name == "roam-relay":
                with peers.peer_relay(path) as server:
                    rows += await proofs.measure_proofs(name, server, many, 8)
        return rows

    return _run(run) + proofs.measure_bare("Python's ssl", 10 * many)


def _sessions(many: int, seconds: float) -> list[Row]:
    rows = []
    for mode in Mode:
        # What is relayed for one peer has a share.
        count = many if mode in (Mode.P2P, Mode.COMBINED) else min(many, 200)
        rows += sessions.measure_sessions("roam-relay", mode, count, seconds)
    return rows


def _bulk(total: int) -> list[Row]:
    rows = bulk.measure_direct(total)
    with relay_server() as server:
        rows += bulk.measure_relay(server, total)
    with nats_server() as server:
        rows += bulk.measure_nats(server, total)
    direct, plane = (
        next(row.value for row in rows if (row.contender, row.unit) == (contender, "GB/s"))
        for contender in ("loopback, no server", "roam-relay, plane")
    )
    share = Row("roam-relay, plane", "rate as part of direct loopback", plane / direct, "")
    return [*rows, share]


def _messages(count: int) -> list[Row]:
    rows = []
    with relay_server() as server:
        for mode in ("p2p", "central"):
            rows += messages.measure_sessions(server, count, mode)
    with nats_server() as server:
        rows += messages.measure_nats(server, count)
    with websocket_server() as server:
        rows += messages.measure_websocket(server, count)
    return rows


def _conversations(count: int) -> list[Row]:
    rows = []
    with relay_server() as server:
        rows += conversations.measure_ours(server, count)
        rows += messages.measure_sessions(server, 10 * count, "p2p")
    for sync in ("always", "2m"):
        with nats_server(sync) as server:
            rows += conversations.measure_jetstream(server, count, synced=sync == "always")
    return rows


def _gap(moves: int) -> list[Row]:
    return _run(lambda: gap.measure_moves(moves)) + _run(
        lambda: gap.measure_relay_restarts(max(1, moves // 5))
    )


def _setup(count: int) -> list[Row]:
    rows = _run(lambda: setup.measure_setup(count)) + _run(lambda: setup.measure_proofs(count))
    return rows + _run(lambda: choice.measure_choice(count))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(_PARTS),
    multiple=True,
    default=_PARTS,
    help="Measure only this; may be repeated.  [default: all]",
)
@click.option("--runs", default=3, show_default=True, help="Interleaved runs; medians are shown.")
@click.option("--round-trips", default=100_000, show_default=True, help="Of signaling.")
@click.option(
    "--peers",
    "counts",
    type=int,
    multiple=True,
    default=(5000, 15000),
    show_default=True,
    help="Registered peers, or as many as there are file descriptors; may be repeated.",
)
@click.option("--idle", default=20.0, show_default=True, help="Seconds for which they are idle.")
@click.option(
    "--open",
    "opened",
    default=1000,
    show_default=True,
    help="Open sessions; relayed ones 200 at most.",
)
@click.option("--injected", default=50_000, show_default=True, help="Peers in memory alone.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draws the part growth into this file, as SVG.",
)
@click.option("--proving", default=60, show_default=True, help="Peers with endpoints to prove.")
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout, whose relay is measured too: signaling, peers and proofs.",
)
@click.option("--mebibytes", default=4096, show_default=True, help="Bulk data of each contender.")
@click.option("--count", default=300_000, show_default=True, help="Messages of each contender.")
@click.option(
    "--letters", "stored", default=5_000, show_default=True, help="Messages that are stored."
)
@click.option("--moves", default=40, show_default=True, help="Moves of each mode.")
@click.option("--queries", default=20_000, show_default=True, help="DNS queries of each kind.")
@click.option("--sessions", "setups", default=30, show_default=True, help="Of each kind of setup.")
def main(
    as_json: bool,
    parts: tuple[str, ...],
    runs: int,
    round_trips: int,
    counts: tuple[int, ...],
    idle: float,
    opened: int,
    injected: int,
    picture: Path | None,
    proving: int,
    before: Path | None,
    mebibytes: int,
    count: int,
    stored: int,
    moves: int,
    queries: int,
    setups: int,
) -> None:
    """Measure beside nats-server, aiohttp and plain loopback, in the same run on this machine."""
    measures: dict[str, Callable[[], list[Row]]] = {
        "signaling": lambda: _signaling(round_trips, before),
        "peers": lambda: _peers(counts, idle, before),
        "sessions": lambda: _sessions(opened, idle),
        "standby": lambda: standby.measure_standby(min(opened, _STANDING), idle),
        "growth": lambda: _growth(counts, injected, idle, round_trips),
        "proofs": lambda: _proofs(proving, before),
        "bulk": lambda: _bulk(mebibytes << 20),
        "messages": lambda: _messages(count),
        "conversations": lambda: _conversations(stored),
        "letters": lambda: _run(lambda: letters.measure_letters(stored)),
        "apart": lambda: _run(lambda: apart.measure_apart(stored)),
        "gap": lambda: _gap(moves),
        "setup": lambda: _setup(setups),
        "nodes": lambda: (
            nodes.measure_nodes(mebibytes << 20, round_trips // 20)
            + nodes.measure_shared_port(mebibytes << 20, 5)
            + throughput.measure_throughput(mebibytes << 20, round_trips)
            + nodes.measure_subscriptions((injected, 2 * injected))
        ),
        "names": lambda: _run(lambda: names.measure_names(queries, moves)),
    }
    results = [
        [row for part in parts for row in measures[part]()]
        for _ in track(range(runs), "measuring", console=Console(stderr=True))
    ]
    rows = median_rows(results)
    if picture is not None:
        picture.write_text(chart(rows, growth.FIGURES))
    if as_json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=1)
        return
    table = Table(title=f"Medians of {runs} runs")
    for column in ("contender", "figure", "value", "unit"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        table.add_row(row.contender, row.figure, f"{row.value:,.2f}", row.unit)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
