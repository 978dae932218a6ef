"""The connection to NATS: one at a time, each with nothing of the one before.

Who lost one makes the next from the beginning: what was not sent is not sent late, and what was
missed is asked for (`relay.backplane`). Foreign exceptions end here.
"""

import asyncio
import contextlib
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol.errors import RoamRelayError
from relay.cluster.servers import CONNECTING, Servers, check_wanted, close, in_words
from relay.config import ClusterConfig
from relay.log import log

__all__ = ["Link", "LinkLost", "Receive"]

_ENDING = 0.5
"""Seconds for the last word."""
_WAITING = 65_536
"""Messages that may wait to be sent, and to be read of each subscription: beyond it the connection
ends, or what comes is dropped, told, and asked for again."""
_WAITING_BYTES = 1 << 26

Receive = Callable[[str, bytes, bool], None]
"""Told the subject, what was said, and whether instead nobody was there to be told."""

Opened = Callable[[], tuple[str, bytes] | None]


class LinkLost(RoamRelayError):
    """There is no connection to NATS, or none any more."""


class Link:
    """Of one node. `place` says where a file of the configuration is."""

    def __init__(self, config: ClusterConfig, place: Callable[[str], str]) -> None:
        self._servers = Servers(config, place)
        self._outbox: asyncio.Queue[tuple[str, bytes, str]] | None = None
        """None while there is no connection."""
        self._ended: asyncio.Event | None = None

    @property
    def is_up(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._outbox is not None

    def say(self, subject: str, data: bytes, nobody: str = "") -> bool:
        """Send something; False where it cannot be. Where nobody is there to be told, that comes on
        the subject `nobody`."""
        if self._outbox is None:
            return False
        try:
            self._outbox.put_nowait((subject, data, nobody))
        except asyncio.QueueFull:
            self.end()
            return False
        return True

    def end(self) -> None:
        """End the connection, if there is one: another one begins with everything anew."""
        self._outbox = None
        if self._ended is not None:
            self._ended.set()

    async def run(
        self,
        subjects: tuple[str, ...],
        receive: Receive,
        opened: Callable[[], tuple[str, bytes] | None],
    ) -> None:
        """Connect, subscribe, call `opened`, and serve until the connection is over. What `opened`
        returns is sent at the end, if this node ends before.

        Raises:
            LinkLost: always in the end; says why.
        """
        client, ended = Client(), asyncio.Event()
        why = "NATS has ended the connection"

        async def closed() -> None:
            ended.set()

        async def failed(error: Exception) -> None:
            nonlocal why
            if isinstance(error, nats.errors.SlowConsumerError):
                log.warning("messages of the cluster were dropped: too many wait to be read")
            else:
                why = in_words(error)

        async def take(message: Msg) -> None:
            headers = message.headers or {}
            receive(message.subject, message.data, headers.get("Status") == "503")

        self._ended = ended
        try:
            async with asyncio.timeout(CONNECTING):
                await self._servers.connect(client, closed, failed)
                for subject in subjects:
                    await client.subscribe(
                        subject,
                        cb=take,
                        pending_msgs_limit=_WAITING,
                        pending_bytes_limit=_WAITING_BYTES,
                    )
                # The first one may overtake the subscriptions.
                await client.flush()
                await client.flush()
            check_wanted()
            self._outbox = asyncio.Queue(_WAITING)
            last_word = opened()
            try:
                await self._serve(client, self._outbox, ended)
            except asyncio.CancelledError:
                if last_word is None:
                    raise
                # Whatever becomes of it, this ends: it was cancelled.
                with contextlib.suppress(TimeoutError, nats.errors.Error, OSError):
                    async with asyncio.timeout(_ENDING):
                        await client.publish(*last_word)
                        await client.flush()
                raise
        except TimeoutError:
            raise LinkLost("NATS did not answer in time") from None
        except (nats.errors.Error, OSError, ValueError) as error:
            raise LinkLost(in_words(error)) from None
        except ModuleNotFoundError as error:
            if error.name != "nkeys":
                raise
            raise LinkLost("a file of credentials needs a library: pip install nkeys") from None
        finally:
            self._outbox = self._ended = None
            await close(client)
        raise LinkLost(why)

    async def _serve(
        self, client: Client, outbox: asyncio.Queue[tuple[str, bytes, str]], ended: asyncio.Event
    ) -> None:
        """Send what is said, until the connection is over. No timeout: pings find a dead one."""

        async def send() -> None:
            while True:
                subject, data, nobody = await outbox.get()
                await client.publish(subject, data, reply=nobody)

        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_until_lost(send()))
            waiting = tasks.create_task(ended.wait())
            await asyncio.wait((sending, waiting), return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            waiting.cancel()


async def _until_lost(sending: "asyncio.Future[None] | object") -> None:
    try:
        await sending  # type: ignore[misc]
    except (nats.errors.Error, OSError):
        return  # The one that reads says why.
