"""Opening a session from this side: with its rules, its deadline, and its fallback."""

import asyncio
import os

from peers.candidate import Select
from peers.config import PeerConfig
from peers.log import log
from peers.path import PathKind
from peers.policy import PathFacts, Policy
from peers.roaming import Roaming
from peers.session import Session
from protocol.errors import Code, PathFailed, Refused
from protocol.messages import Mode

__all__ = ["Opening"]

_DIRECT = 4.0
"""Seconds for a session in `combined`, from the request to its direct path, before it is opened in
`auto` instead."""


class Opening:
    """Opens the sessions of one peer."""

    def __init__(self, config: PeerConfig, roaming: Roaming) -> None:
        self._config = config
        self._roaming = roaming

    async def open(
        self,
        guid: str,
        service: str,
        mode: Mode,
        timeout: float,
        policy: Policy,
        select: Select | str,
    ) -> Session:
        """Open a session; what it raises is that of `Peer.connect`.

        In `combined`, where no direct path can be made, the session is opened in `auto`, unless
        the policy or the configuration forbids it.
        """
        try:
            async with asyncio.timeout(policy.within):
                forbidden = policy.refusal(PathFacts(PathKind.RELAYED))
                if mode is not Mode.COMBINED or forbidden or not self._config.fallback:
                    return await self._open(guid, service, mode, timeout, policy, select)
                try:
                    async with asyncio.timeout(_DIRECT):
                        return await self._open(guid, service, mode, timeout, policy, select)
                except (PathFailed, Refused, TimeoutError) as error:
                    if isinstance(error, Refused) and error.code is not Code.NO_ENDPOINT:
                        raise
                    reason = str(error) or f"none within {_DIRECT:g} s"
                    log.info("no direct path, mode auto instead", peer=guid[:8], reason=reason)
                return await self._open(guid, service, Mode.AUTO, timeout, policy, select)
        except TimeoutError:
            raise PathFailed(
                f"no path within {policy.within:g} s: the policy says 'within {policy.within:g}'"
            ) from None

    async def _open(
        self,
        guid: str,
        service: str,
        mode: Mode,
        timeout: float,
        policy: Policy,
        select: Select | str,
    ) -> Session:
        session = Session(
            session_id=os.urandom(16),
            remote=guid,
            service=service,
            mode=mode,
            caller=True,
            discloses=mode is not Mode.CENTRAL,
            settings=self._config.session,
            owner=self._roaming,
            policy=policy,
            select=select,
        )
        await self._roaming.open(session, timeout)
        return session
