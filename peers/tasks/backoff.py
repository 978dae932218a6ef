"""How long to wait between attempts."""

from collections.abc import Callable, Iterator

__all__ = ["LONGEST_WITHOUT_PATH", "backoff"]

LONGEST_WITHOUT_PATH = 1.0
"""Seconds that whoever waits for a session's next path lets pass at most between two attempts,
where it was not told to wait: what has become possible is noticed within that."""


def backoff(
    random: Callable[[], float], *, first: float = 0.25, factor: float = 2.0, longest: float = 30.0
) -> Iterator[float]:
    """Yield waits in seconds, without end: each a random part (half to whole) of a growing bound.

    `random` returns numbers from 0 to 1; the randomness keeps many peers from coming back in step.
    """
    bound = first
    while True:
        yield bound * (0.5 + 0.5 * random())
        bound = min(bound * factor, longest)
