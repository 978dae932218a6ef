"""Who may begin a session with a service: the GUIDs that are listed, and whom the program takes.

Here is what a program says and gets to see; when its function is asked, and what becomes of what
it does, is decided in the room roaming.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from peers.config import checked_function, checked_guids
from peers.path import Path
from protocol.messages import Mode

__all__ = ["Accept", "Admission", "SessionRequest"]


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A session that somebody asks for, and that the program has not taken yet."""

    remote: str
    """The GUID of the caller. It is proven."""
    service: str
    """The service that is asked for."""
    mode: Mode
    """The mode that the session would have."""
    metadata: bytes
    """What the caller has given to `connect`: its own word, at most 1,024 bytes."""
    path: Path
    """Where the caller comes from now: the kind of path and its addresses. The session may move."""


Accept: TypeAlias = Callable[[SessionRequest], Awaitable[bool | str] | bool | str]
"""The program's function that takes a session, by True, or refuses it: by False, or by a reason,
which the caller gets to see."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may begin a session with one service."""

    allow: frozenset[str] | None = None
    """The GUIDs that may ask; None lets anyone."""
    accept: Accept | None = None
    """The program's function, asked for each of them; None takes every one."""

    @classmethod
    def checked(cls, allow: Collection[str] | None, accept: Accept | None = None) -> "Admission":
        """Return what a program hands over.

        Raises:
            IdentityError: what is listed is no GUID.
            TypeError: one of them is of another kind.
        """
        if accept is not None:
            checked_function(accept, "accept")
        return cls(None if allow is None else frozenset(checked_guids(allow, "allow")), accept)
