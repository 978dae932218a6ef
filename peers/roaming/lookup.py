"""Who says where the other side is: the relay, the DNS, in the configured order.

Nothing here dials.
"""

import os
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from peers.config import PeerConfig, log
from peers.control import Answered, Registration
from peers.location import Found, Located, found_by_name, located
from peers.session import SessionEnd
from protocol.endpoint import SignedEntry
from protocol.errors import (
    Code,
    NameServerUnavailable,
    Refused,
    RelayUnavailable,
    RoamRelayError,
)
from protocol.messages import Mode, ServiceRequestTo

if TYPE_CHECKING:
    from peers.dns import NameLookup

__all__ = ["Directory", "Lookup", "first_that_knows"]

_MAX_TIMEOUT = 60.0
"""Seconds: the longest that a request may wait at a relay (docs/protocol.md §6)."""
_OTHER_WAY = 2.0
"""Seconds to wait for a relay that is not there, where the DNS can be asked too."""

_T = TypeVar("_T")


class Directory(Enum):
    """Who may be asked where a peer is."""

    RELAY = "relay"
    DNS = "dns"


class Lookup:
    """Asks for one peer. `names` is None where no zone is configured."""

    def __init__(
        self, config: PeerConfig, registration: Registration, names: "NameLookup | None"
    ) -> None:
        self._config = config
        self._registration = registration
        self._names = names

    def directories(self, mode: Mode) -> tuple[Directory, ...]:
        """Return who can be asked for a session, the first choice first. The DNS tells addresses
        and announces nobody: it serves mode `p2p` alone."""
        if mode is not Mode.P2P or self._names is None:
            return (Directory.RELAY,)
        if self._config.relay is None:
            return (Directory.DNS,)
        both = Directory.RELAY, Directory.DNS
        return both[::-1] if self._config.lookup == "dns" else both

    async def connected(self, timeout: float) -> None:
        """Wait until the relay can be asked: what goes with a question may depend on the relay.

        Raises:
            RoamRelayError: there is none in time.
        """
        await self._registration.connection(self._patience(min(timeout, _MAX_TIMEOUT)))

    async def ask_relay(
        self,
        session: SessionEnd,
        entries: tuple[SignedEntry, ...],
        timeout: float,
        mode: Mode | None = None,
        offer: bytes = b"",
    ) -> Answered:
        """Send the service request of a session, its first one or one for its next path; `entries`
        are this side's own, as far as they may be told. `mode` is the session's unless another is
        given, and `offer` goes with it.

        Raises:
            RoamRelayError: what the relay or the other peer said, or that there is no relay.
        """
        terms = session.terms
        seconds = min(timeout, _MAX_TIMEOUT)
        return await self._request(
            ServiceRequestTo(
                0,
                terms.remote,
                terms.service,
                mode or terms.mode,
                session.id,
                entries,
                seconds,
                session.has_had_path,
                offer,
            )
        )

    async def ask_names(self, guid: str, service: str, *, fresh: bool = False) -> Found:
        """Return what the DNS says of a peer's service; `fresh` asks the zone's own server.

        Raises:
            UnknownPeer, UnknownService, NameServerUnavailable: as `NameLookup.find`.
        """
        if self._names is None:
            raise NameServerUnavailable("no zone is configured")
        return await self._names.find(guid, service, fresh=fresh)

    def distrust(self, guid: str, service: str) -> None:
        """What the DNS has said of a service has led nowhere: ask again the next time."""
        if self._names is not None:
            self._names.distrust(guid, service)

    async def locate(self, guid: str, service: str, timeout: float) -> Located:
        """Return where a peer's service is, as the first says that knows.

        Raises:
            RoamRelayError: what the first said that could be asked.
        """
        seconds = min(timeout, _MAX_TIMEOUT)

        async def ask(directory: Directory) -> Located:
            if directory is Directory.DNS:
                return found_by_name(guid, service, await self.ask_names(guid, service))
            session = os.urandom(16)
            request = ServiceRequestTo(0, guid, service, Mode.P2P, session, (), seconds)
            return located(guid, service, (await self._request(request)).response)

        return await first_that_knows(self.directories(Mode.P2P), ask)

    # -- inside ---------------------------------------------------------------------------------

    async def _request(self, request: ServiceRequestTo) -> Answered:
        return await self._registration.ask(request, self._patience(request.timeout))

    def _patience(self, timeout: float) -> float:
        """How long the relay is waited for, in seconds, of so many for the whole question."""
        return timeout if self._config.ddns is None else min(timeout, _OTHER_WAY)


async def first_that_knows(
    directories: Sequence[Directory], ask: Callable[[Directory], Coroutine[Any, Any, _T]]
) -> _T:
    """Ask one after the other, unless the other side itself has answered.

    Raises:
        RoamRelayError: what the first said that could be asked.
    """
    errors: list[RoamRelayError] = []
    for directory in directories:
        try:
            return await ask(directory)
        except RoamRelayError as error:
            if _is_the_peers_word(error):
                raise
            errors.append(error)
            log.debug("one way less", asked=directory.value, reason=error.reason)
    silent = RelayUnavailable, NameServerUnavailable
    told = [error for error in errors if not isinstance(error, silent)]
    raise (told or errors)[0]


def _is_the_peers_word(error: RoamRelayError) -> bool:
    """Whether the other side itself has answered: asking elsewhere would not change its mind."""
    if isinstance(error, Refused):
        return error.code is not Code.NO_ENDPOINT
    return error.code in (Code.SESSION_UNKNOWN, Code.LIMIT_EXCEEDED)
