"""What a link between two hosts is like, and the handle of the process that plays it.

The packets themselves are moved in tests/lab/forwarder.py, which is a process of its own.
"""

import contextlib
import json
import select
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Forwarder", "ForwarderFailed", "Link"]

ROOT = Path(__file__).parents[2]
_TIMEOUT = 10.0


@dataclass(frozen=True)
class Link:
    """How a link treats packets, the same in both directions."""

    delay_ms: float = 0.0
    """One way."""
    jitter_ms: float = 0.0
    """Added to the delay: uniform between 0 and this. Packets are never reordered by it: one that
    would overtake waits."""
    loss: float = 0.0
    """The share of packets that vanish, 0 to 1, each on its own."""
    rate_bits: float = 0.0
    """Bits a second; 0 is without a limit."""
    queue_bytes: int = 64 * 1024
    """What may wait for the rate; a packet that finds the queue full is dropped."""
    lose_syns: int = 0
    """So many first SYNs to each address and port vanish, in each direction, from now on."""
    lose_data: int = 0
    """So many first packets with data of each TCP connection vanish, in each direction, from now
    on."""
    seed: int = 1
    """For loss and jitter: the same packets see the same fate."""


class ForwarderFailed(Exception):
    """The forwarder could not do what it was told. Says why."""


class Forwarder:
    """The process that plays all delayed links of one network. It ends with its standard input,
    so that nothing of it outlives the process that started it."""

    def __init__(self, prefix: list[str]) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.lab.forwarder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self._links = 0

    def join(self, one: tuple[int, str], other: tuple[int, str], link: Link) -> int:
        """Make a TUN device in each of two namespaces, given as the id of a process in it and a
        name for the device; return the number of the link between them."""
        self._links += 1
        self._tell({"add": self._links, "ends": [one, other], "link": asdict(link)})
        return self._links

    def change(self, number: int, link: Link) -> None:
        """Let a link be another one from now on. Packets under way arrive as they would have."""
        self._tell({"change": number, "link": asdict(link)})

    def counts(self, number: int) -> dict[str, int]:
        """Return how many packets a link has `passed`, `lost`, dropped as its queue was `full`, or
        could not deliver because the device was `down`, and how many first SYNs (`syns`) and first
        packets with data (`data`) it has lost; both directions together."""
        return {name: int(count) for name, count in self._tell({"counts": number}).items()}

    def _tell(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ForwarderFailed("the forwarder has ended") from None
        readable, _, _ = select.select([self._process.stdout], [], [], _TIMEOUT)
        line = self._process.stdout.readline() if readable else b""
        if not line:
            raise ForwarderFailed("the forwarder does not answer")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ForwarderFailed(answer["error"])
        return answer

    def close(self) -> None:
        """End the process; its devices go with it."""
        self._process.kill()
        self._process.wait(_TIMEOUT)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
