"""How long to wait between attempts."""

from collections.abc import Callable, Iterator

__all__ = ["backoff"]


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
