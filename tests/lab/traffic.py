"""Numbered messages through the lab's programs, and what is measured of them.

A *gap* is the longest time between two deliveries at the receiver after a move, less the usual one.
"""

import contextlib
import queue
import statistics
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise

from tests.lab.draft import NAMES
from tests.lab.network import Host
from tests.lab.programs import DEADLINE, Program

__all__ = ["Result", "Traffic"]


@dataclass(frozen=True)
class Result:
    """What became of the messages of one conversation. Times are seconds."""

    messages: int
    lost: int
    doubled: int
    disordered: int
    """Messages that came after one with a higher number."""
    gaps: tuple[float, ...]
    """One for each move, or a single one where nothing moved."""
    addresses: tuple[str, ...]
    """The other ends that the kernel showed at the caller, in order."""
    deliveries: tuple[tuple[float, int], ...] = field(repr=False, default=())
    """When which number came."""

    @property
    def whole(self) -> bool:
        """Whether each message came once, and in order."""
        return not (self.lost or self.doubled or self.disordered)

    @property
    def longest(self) -> float:
        """The longest gap."""
        return max(self.gaps)

    @property
    def median(self) -> float:
        """The median of the gaps."""
        return statistics.median(self.gaps)


class Traffic:
    """Writes numbers to one program every `interval` seconds, and notes those that another one (or
    the same, which hears its echo) prints."""

    def __init__(
        self, sender: Program, receiver: Program, host: Host, interval: float = 0.005
    ) -> None:
        self.sent = 0
        self.arrived: list[tuple[float, int]] = []
        self._sender, self._receiver = sender, receiver
        self._host = host
        self._interval = interval
        self._moves: list[tuple[int, float]] = []
        self._addresses: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._send, self._take)
        ]

    def begin(self) -> None:
        """Send from now on."""
        for thread in self._threads:
            thread.start()
        self.more()
        self.note_addresses()

    def _send(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(began + self.sent * self._interval - time.monotonic()):
            with contextlib.suppress(OSError):  # It has ended; what it does not print tells so.
                self._sender.write(str(self.sent))
            self.sent += 1

    def _take(self) -> None:
        while self._threads[0].is_alive() or not self._complete:
            try:
                when, line = self._receiver.out.get(timeout=0.1)
            except queue.Empty:
                if self._receiver.process.poll() is not None or self._given_up:
                    return
                continue
            if line.isdigit():
                self.arrived.append((when, int(line)))

    _given_up = False

    @property
    def _complete(self) -> bool:
        return len(self.arrived) >= self.sent

    def more(self, count: int = 50) -> None:
        """Wait for so many more to arrive."""
        wanted = len(self.arrived) + count
        end = time.monotonic() + DEADLINE
        while len(self.arrived) < wanted:
            assert time.monotonic() < end, f"nothing after {len(self.arrived)}"
            time.sleep(0.01)

    def moving(self, away: float = 0.0) -> None:
        """Note that a move is made now, whose gap is measured from here, less the seconds for which
        the node is `away` from any network."""
        self._moves.append((max(0, len(self.arrived) - 1), away))

    def note_addresses(self) -> set[str]:
        """Note and return where the kernel has connections to."""
        hosts = self._host.remote_hosts()
        for name in sorted(NAMES.get(host, host) for host in hosts):
            if name not in self._addresses[-len(hosts) :]:
                self._addresses.append(name)
        return hosts

    def moves_to(self, address: str) -> None:
        """Wait until the kernel has a connection to an address, and traffic flows."""
        end = time.monotonic() + DEADLINE
        while address not in self.note_addresses():
            assert time.monotonic() < end, self._host.remote_hosts()
            time.sleep(0.02)
        self.more()

    def finish(self, patience: float = DEADLINE) -> Result:
        """Stop sending, wait until all has arrived, and say what came of it. What has not come
        after `patience` seconds is lost."""
        self._stop.set()
        self._threads[0].join(DEADLINE)
        self._threads[1].join(patience)
        self._given_up = True
        self._threads[1].join(DEADLINE)
        numbers = [number for _, number in self.arrived]
        return Result(
            messages=self.sent,
            lost=self.sent - len(set(numbers)),
            doubled=len(numbers) - len(set(numbers)),
            disordered=sum(later < earlier for earlier, later in pairwise(numbers)),
            gaps=self._gaps(),
            addresses=tuple(self._addresses),
            deliveries=tuple(self.arrived),
        )

    def _gaps(self) -> tuple[float, ...]:
        times = [when for when, _ in self.arrived]
        between = [later - earlier for earlier, later in pairwise(times)]
        moves = self._moves or [(0, 0.0)]
        ends = [*(start for start, _ in moves[1:]), len(between)]
        return tuple(
            max(0.0, max(between[start:end], default=0.0) - self._interval - away)
            for (start, away), end in zip(moves, ends, strict=True)
        )

    def close(self) -> None:
        """Send and take no more."""
        self._stop.set()
        self._given_up = True
