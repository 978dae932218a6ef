"""`relay top`: who uses most of a relay that runs, live on a terminal, or once, or as JSON."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, get_args

import click
import msgspec

from protocol.extras import needed
from protocol.text import shown
from relay.answers import missing, table
from relay.console import CONFIG, STATE, in_one_line, socket_of
from relay.operator import Failed, OperatorError, Top, TopShown, Used, ask
from relay.place import configured
from relay.tally import KEPT, Column

__all__ = ["COMMANDS"]

_TOTALS = ("messages_in", "messages_out", "requests", "refusals", "plane_bytes")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@click.command()
@click.option("--by", type=click.Choice(get_args(Column)), default="bytes", help="Order [bytes].")
@click.option("--limit", type=click.IntRange(1, 4 * KEPT), default=20, help="Peers [20].")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    help="Seconds between two looks [2]; what each peer has had is new once a second.",
)
@click.option(
    "--count",
    type=click.IntRange(0),
    help="So many looks; 0 is without end [on a terminal without end, else 1].",
)
@CONFIG
@STATE
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line for each look.")
def top(
    by: Column,
    limit: int,
    interval: float,
    count: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Show who uses most of the relay: bytes, planes, requests, refusals; and how the relay is.

    Some hundred peers that have most are known, each with what it has had since the relay's start.
    Ctrl-C ends it.

    \b
    Examples:
      relay top --config relay.toml
      relay top --config relay.toml --by refusals --json --count 0
    """
    is_live = not as_json and sys.stdout.isatty() and count is None
    with in_one_line():
        config = configured(where["file"], os.environ, {"state": where["state"]})
        path = socket_of(config)
        looks = (0 if is_live else 1) if count is None else count
        looking = _look(path, Top(by, limit), interval, looks)
        if is_live:
            _live(looking)
        else:
            _until_signal(looking(_print_json if as_json else _print))


_Show = Callable[[TopShown, TopShown | None], None]
"""Shows one look, beside the one before it."""


def _look(path: str, asked: Top, interval: float, looks: int) -> Callable[[_Show], Any]:
    """Return what looks so many times, and has each look shown."""

    async def look(show: _Show) -> None:
        before: TopShown | None = None
        number = 0
        while True:
            answer = await ask(path, asked)
            if isinstance(answer, Failed):
                raise OperatorError(answer.reason)
            if not isinstance(answer, TopShown):
                raise OperatorError("the relay gave another answer than was asked for")
            show(answer, before)
            before = answer
            number += 1
            if number == looks:
                return
            await asyncio.sleep(interval)

    return look


def _until_signal(work: Any) -> None:
    """Do work until it has ended, or SIGINT or SIGTERM comes: that is how one leaves."""

    async def run() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        if sys.platform != "win32":
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(run())


def _live(looking: Callable[[_Show], Any]) -> None:
    with needed("tables", "the live view (--count and --json do without)"):
        from rich.live import Live
        from rich.text import Text

    with Live(screen=True, auto_refresh=False) as screen:

        def show(now: TopShown, before: TopShown | None) -> None:
            height = screen.console.height
            lines = [*_head(now, before), "", *_rows(now, before)]
            screen.update(Text("\n".join(lines[:height]), no_wrap=True), refresh=True)

        _until_signal(looking(show))


def _print_json(now: TopShown, before: TopShown | None) -> None:
    words = msgspec.to_builtins(now) | {"per_second": _rates(now, before)}
    click.echo(msgspec.json.encode(words).decode())


def _print(now: TopShown, before: TopShown | None) -> None:
    for line in _head(now, before):
        click.echo(line)
    table(_HEAD, [_cells(one, None, 0.0) for one in now.peers])


def _rates(now: TopShown, before: TopShown | None) -> dict[str, float] | None:
    """Return what came in a second, since the look before; None where there was none, or the relay,
    or a process of it, has been started anew or was not asked both times."""
    if before is None or now.process.started != before.process.started or now.at <= before.at:
        return None
    if now.silent != before.silent or any(getattr(now, n) < getattr(before, n) for n in _TOTALS):
        return None
    seconds = now.at - before.at
    rates = {name: (getattr(now, name) - getattr(before, name)) / seconds for name in _TOTALS}
    rates["cpu_seconds"] = (now.process.cpu_seconds - before.process.cpu_seconds) / seconds
    return rates


def _head(now: TopShown, before: TopShown | None) -> list[str]:
    process, rates = now.process, _rates(now, before)
    up = max(0, round(time.time() - process.started))
    memory = "?" if process.resident_bytes is None else _bytes(process.resident_bytes)
    used = "?" if process.descriptors is None else str(process.descriptors)
    most = "?" if process.max_descriptors is None else str(process.max_descriptors)
    lines = [
        f"relay {shown(now.build.get('version', '?'))}, up {up // 86_400} d {up // 3600 % 24:02} h "
        f"{up // 60 % 60:02} min; {now.registered} peers, {now.connections} connections, "
        f"{now.planes} planes",
        f"memory {memory}; descriptors {used} of {most}; "
        f"loop at most {1000 * now.loop_lag:.0f} ms late; "
        f"{_bytes(now.plane_bytes)} through planes, {now.requests} requests, "
        f"{now.refusals} refusals",
    ]
    if now.silent:
        lines.append(f"{missing(now.silent)}: what is there is not counted here")
    if rates is not None:
        lines.append(
            f"a second: {_bytes(rates['plane_bytes'])} through planes, "
            f"{rates['messages_in']:.0f} messages in, {rates['messages_out']:.0f} out, "
            f"{rates['requests']:.0f} requests, {rates['refusals']:.0f} refusals, "
            f"{100 * rates['cpu_seconds']:.0f} % of a core"
        )
    return lines


_HEAD = ("guid", "bytes", "a second", "sent", "received", "planes", "requests", "refusals", "here")


def _rows(now: TopShown, before: TopShown | None) -> list[str]:
    """Return the lines of the live table."""
    is_next = before is not None and _rates(now, before) is not None
    earlier = {one.guid: one for one in before.peers} if before is not None and is_next else {}
    seconds = now.at - before.at if before is not None else 0.0
    rows = [_HEAD, *(_cells(one, earlier.get(one.guid), seconds) for one in now.peers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _cells(one: Used, before: Used | None, seconds: float) -> tuple[str, ...]:
    both = one.sent + one.received
    rate = "-"
    if before is not None and seconds > 0:
        rate = _bytes(max(0, both - before.sent - before.received) / seconds)
    return (
        shown(one.guid),
        _bytes(both),
        rate,
        _bytes(one.sent),
        _bytes(one.received),
        str(one.planes),
        str(one.requests),
        str(one.refusals),
        "yes" if one.here else "-",
    )


def _bytes(count: float) -> str:
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


COMMANDS: tuple[click.Command, ...] = (top,)
