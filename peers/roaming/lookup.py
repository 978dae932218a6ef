"""Asking where the other side of a session is, and dialing it there: by the relay, by the DNS.

Which is asked first is configured; for a session that has lost its path both are, at once.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from peers.choice import newest
from peers.config import PathFacts, PathKind, PeerConfig, log
from peers.dns import NameLookup
from peers.location import Found, Located, OwnLocation, found_by_name, located
from peers.roaming.candidates import entries_for
from peers.roaming.ways import Attempt, Dialer, Made, discard
from peers.session import Session
from peers.tasks import race
from protocol.endpoint import Endpoint, SignedEntry
from protocol.errors import (
    Code,
    NameServerUnavailable,
    PathFailed,
    Refused,
    RelayUnavailable,
    RoamRelayError,
    WrongIdentity,
)
from protocol.messages import Mode

__all__ = ["Asking"]

_AGAIN = (0.0, 0.25, 0.75, 1.5, 3.0, 6.0)
"""Seconds after which the DNS is asked within one search for a session's next path."""

_T = TypeVar("_T")
_W = TypeVar("_W")
Way = Callable[[Attempt, float], Coroutine[Any, Any, Made]]


class Asking:
    """Finds paths for one peer's sessions. `lookup` is None where no zone is configured."""

    def __init__(
        self, config: PeerConfig, dialer: Dialer, own: OwnLocation, lookup: NameLookup | None
    ) -> None:
        self._config = config
        self._dialer = dialer
        self._own = own
        self._lookup = lookup

    def ways(self, session: Session) -> list[Way]:
        """Return what can be asked for a session, the first choice first. The DNS tells addresses
        and announces nobody: it serves mode `p2p` alone."""
        if session.mode is not Mode.P2P:
            return [self._by_relay]
        return self._in_order(self._by_relay, self._by_names)

    async def ask_and_dial(self, attempt: Attempt, timeout: float) -> Made:
        """Make the first path of a session: by the first way, or else by the next.

        Raises:
            RoamRelayError: what the first said that could be asked.
        """
        ways = self.ways(attempt.session)
        return await self._first([partial(way, attempt, timeout) for way in ways])

    async def locate(self, guid: str, service: str, timeout: float) -> Located:
        """Return where a peer's service is, as the first says that knows.

        Raises:
            RoamRelayError: as `ask_and_dial`.
        """

        async def by_relay() -> Located:
            _, response = await self._dialer.ask(
                guid, service, Mode.P2P, os.urandom(16), timeout=timeout
            )
            return located(guid, service, response)

        async def by_names() -> Located:
            assert self._lookup is not None
            return found_by_name(guid, service, await self._lookup.find(guid, service))

        return await self._first(self._in_order(by_relay, by_names))

    # -- inside ---------------------------------------------------------------------------------

    def _in_order(self, by_relay: _W, by_names: _W) -> list[_W]:
        if self._lookup is None:
            return [by_relay]
        if self._config.relay is None:
            return [by_names]
        return [by_names, by_relay] if self._config.lookup == "dns" else [by_relay, by_names]

    async def _first(self, ways: Sequence[Callable[[], Coroutine[Any, Any, _T]]]) -> _T:
        errors: list[RoamRelayError] = []
        for way in ways:
            try:
                return await way()
            except RoamRelayError as error:
                if _is_final(error):
                    raise
                errors.append(error)
                log.debug("one way less", reason=error.reason)
        silent = RelayUnavailable, NameServerUnavailable
        told = [error for error in errors if not isinstance(error, silent)]
        raise (told or errors)[0]

    async def _by_relay(self, attempt: Attempt, timeout: float) -> Made:
        session = attempt.session
        resume = session.has_had_path
        connection, response = await self._dialer.ask(
            session.remote,
            session.service,
            session.mode,
            session.id,
            timeout=timeout,
            resume=resume,
            entries=entries_for(self._own, session),
        )
        if response.entries:
            session.entries_there = response.entries
        if session.mode in (Mode.CENTRAL, Mode.AUTO):
            rule = session.policy.refusal(PathFacts(PathKind.RELAYED))
            if rule is None:
                return await self._dialer.relayed(attempt, connection, response)
            if session.mode is Mode.CENTRAL:
                raise PathFailed(f"mode central goes through the relay: the policy says '{rule}'")
        return await self._dialer.direct(attempt, quick=resume)

    async def _by_names(self, attempt: Attempt, timeout: float) -> Made:
        if attempt.session.has_had_path:
            return await self._next_by_names(attempt)
        return await self._first_by_names(attempt)

    async def _next_by_names(self, attempt: Attempt) -> Made:
        """Ask again and again while what is known does not answer: whoever has moved registers a
        little later, and nobody tells of it."""
        dialed: list[tuple[SignedEntry | Endpoint, ...]] = []

        async def ask(delay: float) -> Made:
            await asyncio.sleep(delay)
            session = attempt.session
            known = (await self._find(session, fresh=True)).known
            # The other side itself may have told more on the path than the zone knows yet.
            if known in dialed or newest(known) < newest(session.entries_there):
                raise PathFailed("the DNS knows nothing new")
            dialed.append(known)
            session.entries_there = known
            return await self._dialer.direct(attempt, quick=True)

        return await race([partial(ask, delay) for delay in _AGAIN], stagger=0, discard=discard)

    async def _first_by_names(self, attempt: Attempt) -> Made:
        assert self._lookup is not None
        session = attempt.session
        found = await self._find(session)
        session.entries_there = found.known
        try:
            made = await self._dialer.direct(attempt)
        except (PathFailed, WrongIdentity) as failed:
            self._lookup.distrust(session.remote, session.service)
            try:
                again = await self._find(session, fresh=True)
            except NameServerUnavailable:
                raise failed from None
            if again.known == found.known:
                raise
            session.trace.note("asked", reason="by the DNS again: what was known led nowhere")
            session.entries_there = again.known
            return await self._dialer.direct(attempt)
        if any(event.what == "failed" for event in session.trace.events):
            self._lookup.distrust(session.remote, session.service)
        return made

    async def _find(self, session: Session, *, fresh: bool = False) -> Found:
        assert self._lookup is not None
        found = await self._lookup.find(session.remote, session.service, fresh=fresh)
        note = "too old, but no name server answers" if found.stale else "by the DNS"
        session.trace.note("asked", reason=note)
        return found


def _is_final(error: RoamRelayError) -> bool:
    """Whether the other side itself has answered: asking elsewhere would not change its mind."""
    if isinstance(error, Refused):
        return error.code is not Code.NO_ENDPOINT
    return error.code in (Code.SESSION_UNKNOWN, Code.LIMIT_EXCEEDED)
