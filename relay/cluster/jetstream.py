"""One stream of JetStream as a node follows it: a connection of its own, all that is in the stream
and is put into it, in its order, and how long an answer may take.

What is put there, and what that means, is in `stream.py` (letters) and `bucket.py` (what the
operator has said). Foreign exceptions end here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from relay.cluster.link import LinkLost
from relay.cluster.servers import CONNECTING, Servers, check_wanted, close, in_words
from relay.log import guarded, log
from relay.store import StoreFailed, StoreUnsure

__all__ = [
    "IN_USE",
    "Followed",
    "JetStreamMissing",
    "Reader",
    "Source",
    "StreamAway",
    "StreamFull",
    "check_version",
]

ANSWER = 5.0
"""Seconds for NATS to answer."""
_HEARTBEAT = 1.0
"""Seconds between two signs of life of what says all that is in the stream."""
_SILENT = 5
"""Looks without one, a second each, after which the connection begins anew."""
_PENDING, _PENDING_BYTES = 1 << 20, 1 << 28
"""Messages that may wait to be read. The server keeps far below it: it is answered as they are."""
_FULL = {10023, 10028, 10047, 10053, 10077, 10122}
"""Codes of JetStream that say that there is no room: of the server, the account, the stream."""
IN_USE = 10058
_NO_JETSTREAM = {10039, 10076}
"""Codes that say that it is not switched on: for this account, at this server."""
_SERVER = 2, 11
"""The version from which on what is in a stream has a time of its own."""
_NONE = "there is no connection to NATS"


class StreamAway(StoreUnsure):
    """The stream cannot be asked now. What was to be put into it may be there."""


class StreamFull(StoreFailed):
    """There is no room in it; nothing has changed."""


class JetStreamMissing(LinkLost):
    """NATS is there, and has no JetStream, or not one that can do what is needed."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is followed."""

    name: str
    """Of the stream."""
    subjects: str
    """Those that are followed."""
    what: str
    """In words, for the log: the stream of …"""
    headers_only: bool = False
    """Whether what is under the headers is left where it is."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who is told what is in a stream."""

    make: Callable[[JetStreamContext], Awaitable[int]]
    """Makes the stream where there is none; returns the number that was given last in it."""
    opened: Callable[[int], None]
    """It is told from the beginning from now on; the number that was given last is this."""
    read: Callable[[Msg], None]
    """Something is in it, or was put into it."""
    whole: Callable[[], None]
    """Nothing else is there now."""


@dataclass(slots=True, eq=False)
class _Connection:
    client: Client
    stream: JetStreamContext
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: set[asyncio.Timeout] = field(default_factory=set)
    delivered: int = 0
    """How many messages the consumer has said, counted by it."""
    signs: int = 0
    has_complained: bool = False


class Followed:
    """A stream as one node has it: while `run` runs."""

    def __init__(self, servers: Servers, source: Source) -> None:
        self._servers = servers
        self._source = source
        self._connection: _Connection | None = None

    async def run(self, reader: Reader) -> None:
        """Connect, and tell all that is in the stream and what is put into it from then on, until
        the connection is over.

        Raises:
            LinkLost: always in the end; says why.
        """
        client = Client()
        connection = _Connection(client, client.jetstream(timeout=ANSWER))
        why = "NATS has ended the connection"

        async def closed() -> None:
            connection.ended.set()

        async def failed(error: Exception) -> None:
            nonlocal why
            why = in_words(error)
            if isinstance(error, nats.errors.SlowConsumerError):
                connection.ended.set()

        async def take(message: Msg) -> None:
            with guarded(f"reading what is said in the stream of {self._source.what}"):
                await self._take(connection, message, reader)

        try:
            async with asyncio.timeout(4 * CONNECTING):
                await self._servers.connect(client, closed, failed)
                check_version(client, self._source.what)
                last = await reader.make(connection.stream)
                inbox = client.new_inbox()
                await client.subscribe(
                    inbox,
                    cb=take,
                    pending_msgs_limit=_PENDING,
                    pending_bytes_limit=_PENDING_BYTES,
                )
                reader.opened(last)
                self._connection = connection
                following = await connection.stream.add_consumer(
                    self._source.name, self._consumer(inbox)
                )
            check_wanted()
            if not following.num_pending:
                reader.whole()
            await self._watch(connection)
        except TimeoutError:
            if "permissions violation" in why.lower():
                # What was asked for has no answer then.
                raise JetStreamMissing(
                    f"NATS does not let this node use JetStream ({why})"
                ) from None
            raise LinkLost("NATS did not answer in time") from None
        except NoStreamResponseError:
            raise JetStreamMissing("NATS has no JetStream") from None
        except ServiceUnavailableError as error:
            if error.err_code is None or error.err_code in _NO_JETSTREAM:
                raise JetStreamMissing("NATS has no JetStream") from None
            raise LinkLost(in_words(error)) from None
        except (nats.errors.Error, OSError, ValueError) as error:
            raise LinkLost(in_words(error)) from None
        except ModuleNotFoundError as error:
            if error.name != "nkeys":
                raise
            raise LinkLost("a file of credentials needs a library: pip install nkeys") from None
        finally:
            self._connection = None
            now = asyncio.get_running_loop().time()
            for deadline in connection.waiting:
                with contextlib.suppress(RuntimeError):  # It has come by itself, just now.
                    deadline.reschedule(now)
            await close(client)
        raise LinkLost(why)

    def end(self) -> None:
        """End the connection, if there is one: the next one begins with everything anew."""
        if self._connection is not None:
            self._connection.ended.set()

    def stream(self) -> JetStreamContext:
        """Return what is asked now.

        Raises:
            StreamAway: there is no connection.
        """
        if self._connection is None:
            raise StreamAway(_NONE)
        return self._connection.stream

    @contextlib.asynccontextmanager
    async def within(self) -> AsyncIterator[JetStreamContext]:
        """Within this, ask, and wait for what is said in the stream, as long as for an answer.

        Raises:
            StreamAway: there was none in time.
            StreamFull
        """
        connection = self._connection
        if connection is None:
            raise StreamAway(_NONE)
        try:
            async with asyncio.timeout(ANSWER) as deadline:
                connection.waiting.add(deadline)
                try:
                    yield connection.stream
                finally:
                    connection.waiting.discard(deadline)
        except TimeoutError:
            raise StreamAway("NATS did not answer in time") from None
        except APIError as error:
            if error.err_code in _FULL:
                raise StreamFull(str(error.description)) from None
            raise StreamAway(f"NATS: {error.description}") from None
        except (nats.errors.Error, OSError) as error:
            raise StreamAway(in_words(error)) from None

    def complain(self) -> None:
        """Say in the log, once for each connection, that there is something of others."""
        connection = self._connection
        if connection is not None and not connection.has_complained:
            connection.has_complained = True
            what = self._source.what
            log.warning(f"what no relay of this cluster has said is in the stream of {what}")

    # -- inside ---------------------------------------------------------------------------------

    def _consumer(self, inbox: str) -> api.ConsumerConfig:
        return api.ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.NONE,
            filter_subject=self._source.subjects,
            headers_only=self._source.headers_only,
            flow_control=True,
            idle_heartbeat=_HEARTBEAT,
            mem_storage=True,
            num_replicas=1,
            max_deliver=1,
        )

    async def _watch(self, connection: _Connection) -> None:
        """Wait until the connection is over, or nothing is heard of the stream any more."""
        silent, before = 0, connection.signs
        while not connection.ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT):
                    await connection.ended.wait()
            silent = silent + 1 if connection.signs == before else 0
            before = connection.signs
            if silent >= _SILENT:
                raise LinkLost("nothing is heard of JetStream any more")

    async def _take(self, connection: _Connection, message: Msg, reader: Reader) -> None:
        if connection is not self._connection or connection.ended.is_set():
            return  # What still comes of one that is over is read anew by the next.
        connection.signs += 1
        headers = message.headers or {}
        if headers.get("Status"):
            stalled = headers.get("Nats-Consumer-Stalled")
            answer = message.reply or stalled
            if answer:
                # Flow control: what came before this is read. Where it cannot be said it is over.
                with contextlib.suppress(nats.errors.Error, OSError):
                    await connection.client.publish(answer)
            delivered = headers.get(api.Header.LAST_CONSUMER)
            if delivered is not None and int(delivered) > connection.delivered:
                self._missed(connection)
            elif not answer:
                reader.whole()  # It is idle, and does not wait for this side.
            return
        about = message.metadata
        if about.sequence.consumer != connection.delivered + 1:
            self._missed(connection)
            return
        connection.delivered += 1
        try:
            reader.read(message)
        finally:
            if not about.num_pending:
                reader.whole()

    def _missed(self, connection: _Connection) -> None:
        what = self._source.what
        log.warning(f"something in the stream of {what} was missed: all of it is read anew")
        connection.ended.set()


def check_version(client: Client, what: str) -> None:
    """See that a server is new enough.

    Raises:
        JetStreamMissing
    """
    version = client.connected_server_version
    if (version.major, version.minor) < _SERVER:
        raise JetStreamMissing(f"{what}: nats-server 2.11 or later is needed")
