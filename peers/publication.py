"""Publishing where this peer is: at the relay, and in the zone, as far as they are configured."""

import asyncio
import contextlib

from peers.config import PeerConfig
from peers.control import Registration
from peers.dns import Names
from peers.tasks import Tasks
from protocol.errors import RelayUnavailable, RoamRelayError

__all__ = ["Publication"]


class Publication:
    """Keeps what others can find up to date. `names` is None where no zone is configured."""

    def __init__(
        self, config: PeerConfig, registration: Registration, names: Names | None, tasks: Tasks
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
        if self._names is not None:
            await self._names.published()
        if self._config.relay is None:
            return
        await self._registration.connection(self._config.connect_timeout)
        try:
            await self._publish()
        except RelayUnavailable as error:
            if error.code is not None:
                raise
            # The connection ended meanwhile: the next one registers what is offered then.
            await self._registration.connection(self._config.connect_timeout)

    async def _publish(self) -> None:
        async with self._publishing:
            await self._registration.publish()

    async def _publish_quietly(self) -> None:
        # A refusal is logged by the registration, and raised from `published`.
        with contextlib.suppress(RoamRelayError):
            await self._publish()
