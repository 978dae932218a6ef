"""What somebody between two peers can do to the sealed flights that pass (docs/protocol.md §10).

Both peers are in this process. It is the one door through which tests do it.
"""

import contextlib
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from protocol.first_bytes import FLIGHT_HEAD
from protocol.first_flight import FlightKeys, Opened, Sealed

__all__ = ["Meddler", "meddled_flights"]


class Meddler:
    """Somebody who keeps what passes, and changes some of it."""

    def __init__(self, chance: random.Random, share: float) -> None:
        """`share` is how many of all that pass are changed, 0 to 1."""
        self._chance = chance
        self._share = share
        self._kept: deque[bytes] = deque(maxlen=64)
        self.done: Counter[str] = Counter()
        """What was done, and how often; `passed` are those that were let through as they are."""

    def pass_on(self, data: bytes) -> bytes:
        """Return what goes on in place of a flight or its answer, which is never longer."""
        before = [other for other in self._kept if len(other) <= len(data)]
        self._kept.append(data)
        deeds: list[Callable[[bytes], bytes]] = [self._cut, self._turned, self._dropped]
        if before:
            deeds.append(lambda data: self._chance.choice(before))
        if self._chance.random() >= self._share:
            self.done["passed"] += 1
            return data
        deed = self._chance.choice(deeds)
        self.done[deed.__name__.strip("_").replace("<lambda>", "played again")] += 1
        return deed(data)

    def _cut(self, data: bytes) -> bytes:
        """What stands behind it then is taken for the rest."""
        return data[: self._chance.randrange(1, len(data))]

    def _turned(self, data: bytes) -> bytes:
        """One bit: of the head, but for what says where it ends, or of what is sealed."""
        at = self._chance.choice((*range(4, FLIGHT_HEAD - 2), *range(FLIGHT_HEAD, len(data))))
        return data[:at] + bytes((data[at] ^ 1 << self._chance.randrange(8),)) + data[at + 1 :]

    def _dropped(self, data: bytes) -> bytes:
        return b""


@contextlib.contextmanager
def meddled_flights(chance: random.Random, share: float) -> Iterator[Meddler]:
    """Let somebody meddle with all flights of the peers of this process, and with their answers."""
    meddler = Meddler(chance, share)
    seal, answer = FlightKeys.seal, Opened.answer

    def sealed(self: FlightKeys, random: bytes, plain: bytes) -> Sealed | None:
        made = seal(self, random, plain)
        return made and replace(made, data=meddler.pass_on(made.data))

    def answered(self: Opened, random: bytes, plain: bytes) -> bytes:
        return meddler.pass_on(answer(self, random, plain))

    FlightKeys.seal = sealed  # type: ignore[method-assign]
    Opened.answer = answered  # type: ignore[method-assign]
    try:
        yield meddler
    finally:
        FlightKeys.seal = seal  # type: ignore[method-assign]
        Opened.answer = answer  # type: ignore[method-assign]
