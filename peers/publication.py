"""Publishing where this peer is: at the relay, and in the zone, as far as they are configured."""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from peers.config import PeerConfig
from peers.control import Registration
from peers.tasks import Tasks
from protocol.errors import NameServerUnavailable, RelayUnavailable, RequestTimeout, RoamRelayError

if TYPE_CHECKING:
    from peers.dns import Names

__all__ = ["Publication"]

_AGAIN = 1.0
"""Seconds until a zone that cannot be reached is asked about again, where it is waited for."""


class Publication:
    """Keeps what others can find up to date. `names` is None where no zone is configured."""

    def __init__(
        self, config: PeerConfig, registration: Registration, names: "Names | None", tasks: Tasks
    ) -> None:
        self._config = config
        self._registration = registration
        self._names = names
        self._tasks = tasks
        self._publishing = asyncio.Lock()
        """So that a record that was made later is not overtaken."""

    def changed(self) -> None:
        """What this peer says of itself is different: publish it, some time soon."""
        if self._names is not None:
            self._names.changed()
        self._tasks.spawn(self._publish_quietly())

    async def published(self) -> None:
        """Wait until what is offered now can be found.

        Raises:
            RoamRelayError: the relay or the zone refused it, or cannot be reached in time.
        """
        await asyncio.sleep(0)  # A task that was just made to serve begins first.
        if self._names is not None:
            await self._named(self._names)
        if self._config.relay is None:
            return
        registration, waits = self._registration, self._config.wait_for_relay
        patience = None if waits else self._config.connect_timeout
        while True:
            await registration.connection(patience)
            try:
                await self._publish()
                return
            except (RelayUnavailable, RequestTimeout) as error:
                if registration.is_over or error is registration.refusal:
                    raise
                if waits:
                    continue
                if isinstance(error, RequestTimeout):
                    raise
            # The connection ended meanwhile: the next one registers what is offered then.
            await registration.connection(patience)
            if registration.refusal is not None:
                raise registration.refusal
            return

    async def _named(self, names: "Names") -> None:
        while True:
            try:
                await names.published()
            except NameServerUnavailable:
                if not self._config.wait_for_relay:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _publish(self) -> None:
        async with self._publishing:
            await self._registration.publish()

    async def _publish_quietly(self) -> None:
        # A refusal is logged by the registration, and raised from `published`.
        with contextlib.suppress(RoamRelayError):
            await self._publish()
