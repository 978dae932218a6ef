"""Which relay is expected: the one that is configured, or what its key has become.

A relay that has changed its key says so under the old one. What is learned is used from the next
connection on, and kept in a file where one is named: as the signed chain itself, so that nobody is
believed who can write there.
"""

import base64
import os
from collections.abc import Sequence

import msgspec

from peers.config import log
from peers.disk import read, replace
from protocol.errors import RoamRelayError
from protocol.succession import MAX_LINKS, follow

__all__ = ["Pin"]

_KEPT = 64
"""Links that are kept: beyond them `relay_guid` has to be set anew."""
_LONGEST = 65_536


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    relay_guid: str
    """With which the chain begins."""
    links: tuple[str, ...]


class Pin:
    """The relay's GUID where only that relay will do, of one peer. `configured` is where it begins;
    with None any relay is believed, and nothing is learned."""

    def __init__(self, configured: str | None = None, file: str | None = None) -> None:
        self._file = file
        self._first = configured
        self._links: tuple[bytes, ...] = ()
        self._left: tuple[str, ...] = ()
        """The keys that came before this one."""
        self.guid = configured
        """The one that is expected now."""
        self._is_written = True
        if configured is not None and file is not None:
            self._load(configured, file)

    @property
    def to_write(self) -> bool:
        """Whether what was learned is not in the file yet."""
        return not self._is_written and self._file is not None

    def learn(self, links: Sequence[bytes]) -> bool:
        """Follow what a relay says behind a challenge that the key of now has signed; return
        whether another one is expected now. What does not hold is told in the log, and passed
        over: the relay is the one that was expected all the same."""
        if self.guid is None or not links:
            return False
        try:
            guids = follow(self.guid, links, self._left)
            if len(self._links) + len(links) > _KEPT:
                raise RoamRelayError("too many changes: set relay_guid to the relay's key of now")
        except RoamRelayError as error:
            log.warning("the relay's new key is not believed", relay=self.guid, reason=error.reason)
            return False
        log.warning("the relay has changed its key", before=self.guid, now=guids[-1])
        self._take(guids, links)
        self._is_written = False
        return True

    def write(self) -> None:
        """Write down what was learned; it may block. What fails is told in the log, and tried with
        the next connection."""
        if self._file is None or self._first is None:
            return
        links = tuple(base64.b64encode(one).decode() for one in self._links)
        try:
            replace(self._file, msgspec.json.encode(_File(1, self._first, links)) + b"\n")
        except OSError as error:
            log.error(
                "the relay's new key cannot be written down",
                file=self._file,
                reason=error.strerror,
                next_step=f"set relay_guid to {self.guid}",
            )
        else:
            self._is_written = True

    def _take(self, guids: Sequence[str], links: Sequence[bytes]) -> None:
        if self.guid is not None:
            self._left = (*self._left, self.guid, *guids[:-1])
        self._links = (*self._links, *links)
        self.guid = guids[-1]

    def _load(self, configured: str, file: str) -> None:
        if not os.path.lexists(file):
            return
        try:
            data, _ = read(file, _LONGEST)
            kept = msgspec.json.decode(data, type=_File)
            links = [base64.b64decode(one, validate=True) for one in kept.links]
            guids = _followed(kept.relay_guid, links)
        except (OSError, ValueError, msgspec.DecodeError, RoamRelayError) as error:
            log.warning("the file of the relay's key is passed over", file=file, reason=str(error))
            return
        # Whoever sets `relay_guid` anew means that one: what leads to it is over, and what leads
        # from it holds. A chain that does not pass it is another relay's.
        if configured not in guids:
            return
        at = guids.index(configured)
        self._left, self.guid = tuple(guids[:at]), guids[at]
        self._first, self._links = kept.relay_guid, tuple(links[:at])
        if links[at:]:
            self._take(guids[at + 1 :], links[at:])


def _followed(first: str, links: Sequence[bytes]) -> list[str]:
    """Return the GUIDs of a long chain, the first one too."""
    guids = [first]
    for start in range(0, len(links), MAX_LINKS):
        guids += follow(guids[-1], links[start : start + MAX_LINKS], guids[:-1])
    return guids
