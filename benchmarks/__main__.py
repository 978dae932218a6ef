"""`python -m benchmarks`: a table on the terminal, or JSON."""

import asyncio
import json
import sys
from dataclasses import asdict

import click
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import bulk, signaling
from benchmarks.measure import Row, median_rows, nats_server, relay_server, websocket_server


def _signaling(round_trips: int) -> list[Row]:
    async def run() -> list[Row]:
        rows = []
        with relay_server() as server:
            await signaling.measure_relay(server, min(round_trips, 1000))
            rows += await signaling.measure_relay(server, round_trips)
        with nats_server() as server:
            rows += await signaling.measure_nats(server, round_trips)
        with websocket_server() as server:
            rows += await signaling.measure_websocket(server, round_trips)
        return rows

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _bulk(total: int) -> list[Row]:
    rows = bulk.measure_direct(total)
    with relay_server() as server:
        rows += bulk.measure_relay(server, total)
    with nats_server() as server:
        rows += bulk.measure_nats(server, total)
    return rows


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--runs", default=3, show_default=True, help="Interleaved runs; medians are shown.")
@click.option("--round-trips", default=20_000, show_default=True)
@click.option("--mebibytes", default=4096, show_default=True, help="Bulk data of each contender.")
def main(as_json: bool, runs: int, round_trips: int, mebibytes: int) -> None:
    """Measure signaling and bulk beside nats-server and aiohttp on this machine."""
    results = [
        _signaling(round_trips) + _bulk(mebibytes << 20)
        for _ in track(range(runs), "measuring", console=Console(stderr=True))
    ]
    rows = median_rows(results)
    direct = next(row.value for row in rows if row.contender == "loopback, no server")
    plane = next(
        row.value for row in rows if (row.contender, row.unit) == ("roam-relay, plane", "GB/s")
    )
    rows.append(Row("roam-relay, plane", "rate as part of direct loopback", plane / direct, ""))
    if as_json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=1)
        return
    table = Table(title=f"Medians of {runs} runs")
    for column in ("contender", "figure", "value", "unit"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        table.add_row(row.contender, row.figure, f"{row.value:,.2f}", row.unit)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


main()
