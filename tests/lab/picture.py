"""The measured picture: a move under traffic in each mode, and the same move under what others use.

    python -m tests.lab.picture

writes docs/pictures/move.svg and the table in docs/lab.md. MN1 sends, CN3 receives. Each run has a
network of its own, with the same links and the same move.
"""

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.draft import SERVER, Draft, access, draft
from tests.lab.links import ROOT
from tests.lab.network import LabUnavailable
from tests.lab.programs import Commands, Program
from tests.lab.rivals import HEARTBEAT, RECONNECT
from tests.lab.svg import Curve, chart
from tests.lab.traffic import Result, Traffic

__all__ = ["main"]

ROUND_TRIP_MS = 50
RATE = 50
BEFORE, AFTER = 2.0, 8.0
"""Seconds of traffic round the move."""
CLOSE = 0.8
PATIENCE = 10.0
"""Seconds, after the last message was sent, for messages to arrive that have not; what comes later
is lost here."""
MODES = ("p2p", "combined", "auto", "central")
RIVALS = {
    "tcp": "one TCP connection",
    "websocket": "WebSocket that reconnects",
}
CN3 = "10.4.0.2"
BEGIN, END = "<!-- move: begin -->\n", "<!-- move: end -->"


@dataclass(frozen=True)
class _Run:
    name: str
    result: Result
    curve: Curve

    @property
    def gap(self) -> str:
        """The gap in words: nothing may have come after the move at all."""
        return f"{self.result.longest * 1e3:.0f} ms" if self.curve.times[-1] > 1 else "no end"


@contextlib.contextmanager
def _ours(lab: Draft, folder: Path, mode: str) -> Iterator[Traffic]:
    commands = Commands(folder, SERVER)
    with (
        commands.relay(lab.net["server"]),
        commands.listen(lab.net["mn1"]) as (guid, sender),
        contextlib.closing(commands.connect(lab.net["cn3"], guid, mode)) as receiver,
    ):
        receiver.until("connected", receiver.errors)
        sender.until("session", sender.out)
        yield Traffic(sender, receiver, lab.net["cn3"], 1 / RATE)


@contextlib.contextmanager
def _rival(lab: Draft, name: str) -> Iterator[Traffic]:
    with contextlib.closing(
        Program(lab.net["cn3"], "tests.lab.rivals", f"{name}-server", CN3)
    ) as receiver:
        receiver.until("ready", receiver.out)
        with contextlib.closing(
            Program(lab.net["mn1"], "tests.lab.rivals", f"{name}-client", CN3)
        ) as sender:
            yield Traffic(sender, receiver, lab.net["cn3"], 1 / RATE)


def _run(name: str, title: str) -> _Run:
    with (
        draft(access(ROUND_TRIP_MS / 2)) as lab,
        tempfile.TemporaryDirectory() as folder,
        _rival(lab, name) if name in RIVALS else _ours(lab, Path(folder), name) as traffic,
        contextlib.closing(traffic),
    ):
        traffic.begin()
        time.sleep(BEFORE)
        traffic.moving()
        lab.move("mr1", "mr2")
        moved = time.monotonic()
        time.sleep(AFTER)
        result = traffic.finish(PATIENCE)
    times = [when - moved for when, _ in result.deliveries]
    shown = tuple(when for when in times if when >= -1)
    return _Run(title, result, Curve(title, shown))


def _table(runs: list[_Run]) -> str:
    lines = [
        "| | messages | lost | doubled | out of order | gap |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        result = run.result
        lines.append(
            f"| {run.name} | {result.messages} | {result.lost} | {result.doubled} "
            f"| {result.disordered} | {run.gap} |"
        )
    told = (
        f"{RATE} messages a second from MN1 to CN3, a round trip of {ROUND_TRIP_MS} ms, one move.\n"
        f"The WebSocket (aiohttp) pings every {HEARTBEAT:g} s and dials anew after {RECONNECT:g} s;"
        " the system does not\ngive up the TCP connection in this time.\n"
    )
    return "\n".join([told, *lines, ""])


def main() -> None:
    """Measure, and write both files."""
    runs = []
    try:
        for name, title in {**{mode: f"roam-relay, {mode}" for mode in MODES}, **RIVALS}.items():
            runs.append(_run(name, title))
            print(f"{title}: {runs[-1].result.lost} lost, gap {runs[-1].gap}", flush=True)
    except LabUnavailable as reason:
        sys.exit(f"picture: {reason}")
    picture = ROOT / "docs" / "pictures" / "move.svg"
    picture.parent.mkdir(exist_ok=True)
    picture.write_text(chart([run.curve for run in runs], RATE, AFTER, CLOSE))
    page = ROOT / "docs" / "lab.md"
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"picture: {page} has no place for the table")
    page.write_text(before + begin + _table(runs) + end + after)


if __name__ == "__main__":
    main()
