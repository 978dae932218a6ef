"""Calling functions of the program: what they raise is the program's error, not our end."""

import contextlib
from collections.abc import Iterator

from protocol.errors import CallbackFailed, RoamRelayError

__all__ = ["calling"]


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Turn whatever the program's own function raises inside into `CallbackFailed`, with the
    original as its cause; `what` names the function as the program knows it (`select`)."""
    try:
        yield
    except RoamRelayError:
        raise
    except Exception as error:
        raise CallbackFailed(f"{what} raised {type(error).__name__}: {error}") from error
