"""`python -m benchmarks.turns FILE serve …`: our relay, with the turns of its loop counted.

From SIGUSR1 to SIGUSR2 the loop never waits, so that one call of `call_soon` follows the next after
exactly one turn; what each turn has taken of this thread's CPU is written to FILE at SIGUSR2, in
microseconds, as "p99.9 longest" of those in which anything was done.

With BENCHMARK_INJECTED=N there are N peers in its memory before it serves (injected.py).
"""

import os
import signal
import sys
from time import thread_time_ns

import uvloop

_NOTHING = 20_000
"""Nanoseconds: a turn that takes less has done nothing."""


class _Turns:
    def __init__(self, loop: uvloop.Loop, file: str) -> None:
        self._loop = loop
        self._file = file
        self._turns: list[int] = []
        self._last: int | None = None

    def arm(self) -> None:
        self._loop.add_signal_handler(signal.SIGUSR1, self._begin)
        self._loop.add_signal_handler(signal.SIGUSR2, self._end)
        with open(f"{self._file}.armed", "w"):
            pass

    def _begin(self) -> None:
        self._turns.clear()
        self._last = thread_time_ns()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if self._last is None:
            return
        now = thread_time_ns()
        if now - self._last > _NOTHING:
            self._turns.append(now - self._last)
        self._last = now
        self._loop.call_soon(self._turn)

    def _end(self) -> None:
        self._last = None
        turns = sorted(self._turns)
        late = turns[min(len(turns) - 1, int(len(turns) * 0.999))] if turns else 0
        part = f"{self._file}.part"
        with open(part, "w") as file:
            file.write(f"{late / 1e3} {(turns or [0])[-1] / 1e3}")
        os.replace(part, self._file)


def main() -> None:
    """Run the relay's command."""
    from relay.cli import main as relay

    file = sys.argv.pop(1)
    if "BENCHMARK_INJECTED" in os.environ:
        # Not with the relay of another checkout, where the names may be others.
        from benchmarks.injected import inject

        inject(int(os.environ.pop("BENCHMARK_INJECTED")), f"{file}.injected")
    make = uvloop.new_event_loop

    def new_event_loop() -> uvloop.Loop:
        loop = make()
        loop.call_soon(_Turns(loop, file).arm)
        return loop

    uvloop.new_event_loop = new_event_loop
    relay()


if __name__ == "__main__":
    main()
