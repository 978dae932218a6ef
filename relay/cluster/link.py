"""The connection to NATS: one at a time, each with nothing of the one before.

Who lost one makes the next from the beginning: what was not sent is not sent late, and what was
missed is asked for (`relay.backplane`). Foreign exceptions end here.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol.errors import RoamRelayError
from relay.config import ClusterConfig
from relay.log import log

__all__ = ["Link", "LinkLost", "Receive"]

_CONNECTING = 5.0
"""Seconds for a server to take a connection, and to know of a subscription."""
_ENDING = 0.5
"""Seconds for the last word."""
_PING = 1.0
"""Seconds between two pings; two that stay unanswered end the connection."""
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
        self._config = config
        self._place = place
        self._attempts = 0
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
                why = _in_words(error)

        async def take(message: Msg) -> None:
            headers = message.headers or {}
            receive(message.subject, message.data, headers.get("Status") == "503")

        self._ended = ended
        try:
            async with asyncio.timeout(_CONNECTING):
                await self._connect(client, closed, failed)
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
            self._outbox = asyncio.Queue(_WAITING)
            last_word = opened()
            try:
                await self._serve(client, self._outbox, ended)
            except asyncio.CancelledError:
                if last_word is None:
                    raise
                async with asyncio.timeout(_ENDING):
                    await client.publish(*last_word)
                    await client.flush()
                raise
        except TimeoutError:
            raise LinkLost("NATS did not answer in time") from None
        except (nats.errors.Error, OSError, ValueError) as error:
            raise LinkLost(_in_words(error)) from None
        except ModuleNotFoundError as error:
            if error.name != "nkeys":
                raise
            raise LinkLost("a file of credentials needs a library: pip install nkeys") from None
        finally:
            self._outbox = self._ended = None
            if not client.is_closed:
                await _close(client)
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

    async def _connect(
        self,
        client: Client,
        closed: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        config = self._config
        server = config.all_servers[self._attempts % len(config.all_servers)]
        self._attempts += 1
        options: dict[str, object] = {}
        if config.credentials is not None:
            options["user_credentials"] = self._place(config.credentials)
        if config.user is not None and config.password is not None:
            options["user"] = config.user
            options["password"] = await asyncio.to_thread(_line, self._place(config.password))
        if server.startswith("tls:"):
            options["tls"] = await asyncio.to_thread(self._tls)
        await client.connect(
            servers=server,
            name=f"roam-relay {config.node}",
            allow_reconnect=False,
            connect_timeout=int(_CONNECTING),
            ping_interval=_PING,  # type: ignore[arg-type]  # It is slept for.
            max_outstanding_pings=2,
            closed_cb=closed,  # type: ignore[arg-type]
            error_cb=failed,  # type: ignore[arg-type]
            **options,  # type: ignore[arg-type]
        )

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.create_default_context(
            cafile=self._place(config.tls_ca) if config.tls_ca is not None else None
        )
        if config.tls_certificate is not None and config.tls_key is not None:
            context.load_cert_chain(
                self._place(config.tls_certificate), self._place(config.tls_key)
            )
        return context


async def _until_lost(sending: "asyncio.Future[None] | object") -> None:
    try:
        await sending  # type: ignore[misc]
    except (nats.errors.Error, OSError):
        return  # The one that reads says why.


async def _close(client: Client) -> None:
    if client.connected_url is None and not client.is_connecting:
        return  # It was never begun.
    try:
        async with asyncio.timeout(1.0):
            await client.close()
    except (nats.errors.Error, OSError, TimeoutError):
        return  # It is over in any case.


def _line(file: str) -> str:
    return Path(file).read_text().strip()


def _in_words(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return f"NATS: {text.removeprefix('nats: ')}"
