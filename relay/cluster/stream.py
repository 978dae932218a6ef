"""The stream of JetStream that the letters of a cluster are in: a connection of its own, what is
put into the stream and read from it, and all that is said in it, heard in its order.

What is in it by what name, and what that means, is in `letters.py`. Foreign exceptions end here.
"""

import asyncio
import binascii
import contextlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from relay.backplane import Foreign, Seal
from relay.cluster.link import LinkLost
from relay.cluster.servers import CONNECTING, Servers, check_wanted, close, in_words
from relay.log import guarded, log
from relay.store import StoreFailed

__all__ = ["Follower", "Heard", "LetterStream", "StreamAway", "StreamFull"]

ANSWER = 5.0
"""Seconds for NATS to answer."""
_HEARTBEAT = 1.0
"""Seconds between two signs of life of what says all that is in the stream."""
_SILENT = 5
"""Looks without one, a second each, after which the connection begins anew."""
_PENDING, _PENDING_BYTES = 1 << 20, 1 << 28
"""Messages that may wait to be read. The server keeps far below it: it is answered as they are."""
_MARKED = 600
"""Seconds for which it is said in the stream that something is in it no more: who has heard nothing
for so long begins from what is there."""
_HEADER = "Roam-Relay"
_FULL = {10023, 10028, 10047, 10053, 10077, 10122}
"""Codes of JetStream that say that there is no room: of the server, the account, the stream."""
_IN_USE = 10058
_NEEDED = (
    *("subjects", "discard", "max_msgs_per_subject"),
    *("allow_rollup_hdrs", "allow_direct", "allow_msg_ttl"),
)
"""What a stream must have as it is made here."""
_SERVER = 2, 11
"""The version from which on what is in a stream has a time of its own."""
_NONE = "there is no connection to NATS"


class StreamAway(StoreFailed):
    """The stream cannot be asked now. What was to be put into it may be there."""


class _Unanswered(StreamAway):
    """NATS has said nothing in time."""


class StreamFull(StoreFailed):
    """There is no room in it; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Something was put into the stream."""

    subject: str
    """Without what all subjects of it begin with."""
    number: int
    at: float
    """Unix time, by the clock of NATS."""
    said: bytes | None
    """What is said of it, by a relay of this cluster; None: what was there is gone."""


class Follower(Protocol):
    """Who is told all that is in the stream."""

    def opened(self, last: int) -> None:
        """It is told from the beginning from now on; the number that was given last is this."""

    def hear(self, heard: Heard) -> None:
        """Something is there, or was put there."""

    def whole(self) -> None:
        """Nothing else is there now."""


@dataclass(slots=True, eq=False)
class _Connection:
    client: Client
    stream: JetStreamContext
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: set[asyncio.Timeout] = field(default_factory=set)
    """Of who waits for an answer on it."""
    delivered: int = 0
    """How many messages the consumer has said, counted by it."""
    signs: int = 0
    has_complained: bool = False
    is_stuck: bool = False


class LetterStream:
    """The stream, as one node has it: while `run` runs."""

    def __init__(self, prefix: str, servers: Servers, seal: Seal, replicas: int) -> None:
        self._base = f"{prefix}.1.mail."
        self._name = f"{prefix}_mail"
        self._servers = servers
        self._seal = seal
        self._replicas = replicas
        self._connection: _Connection | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether what was put into it was not answered, and nothing has come into it since, though
        there is a connection. So is a nats-server that has met a full disk, until it is started
        anew; one whose disk is slow goes on."""
        return self._connection is not None and self._connection.is_stuck

    async def run(self, follower: Follower) -> None:
        """Connect, make the stream where there is none, tell all that is in it and what is put into
        it from then on, until the connection is over.

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
            with guarded("reading what is said in the stream of letters"):
                await self._take(connection, message, follower)

        try:
            async with asyncio.timeout(4 * CONNECTING):
                await self._servers.connect(client, closed, failed)
                version = client.connected_server_version
                if (version.major, version.minor) < _SERVER:
                    raise LinkLost("letters need nats-server 2.11 or later")
                last = await self._make(connection.stream)
                inbox = client.new_inbox()
                await client.subscribe(
                    inbox,
                    cb=take,
                    pending_msgs_limit=_PENDING,
                    pending_bytes_limit=_PENDING_BYTES,
                )
                follower.opened(last)
                self._connection = connection
                following = await connection.stream.add_consumer(self._name, self._follower(inbox))
            check_wanted()
            if not following.num_pending:
                follower.whole()
            await self._watch(connection)
        except TimeoutError:
            raise LinkLost("NATS did not answer in time") from None
        except NoStreamResponseError:
            raise LinkLost("NATS has no JetStream") from None
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

    # -- what is put into it, and read ----------------------------------------------------------

    def put(
        self, subject: str, said: bytes, body: bytes, lifetime: float
    ) -> "asyncio.Task[api.PubAck]":
        """Put something into the stream, in place of what has that subject; it is gone by itself
        when its time is over. Give what this returns to `number`, at once.

        Raises:
            StreamAway: nothing was put.
        """
        return self._put(subject, said, body, lifetime, {})

    async def drop(self, subject: str, number: int | None = None) -> None:
        """What has a subject is gone, and who follows hears of it. `number`: of what that is, which
        makes room where there is none to say so.

        Raises:
            StreamAway, StreamFull
        """
        try:
            await self.number(self._mark(subject))
        except StreamFull:
            if number is None:
                raise
            await self.claim(number)
            await self.number(self._mark(subject))

    async def number(self, put: "asyncio.Task[api.PubAck]") -> int:
        """Return the number under which something is in the stream, and on its disk.

        Raises:
            StreamAway: it may be there, or not.
            StreamFull: it is not.
        """
        connection = self._connection
        heard = connection.delivered if connection is not None else 0
        try:
            async with self._within():
                number = (await put).seq
            if connection is not None:
                connection.is_stuck = False
            return number
        except _Unanswered:
            if connection is not None and connection.delivered == heard:
                self._note_stuck(connection)
            raise
        finally:
            if not put.cancel() and not put.cancelled():
                put.exception()  # Where nobody has waited for it, it is not lost either.

    async def read(self, number: int, *, of_leader: bool = False) -> bytes | None:
        """Return what is under a number; None where nothing is. Any replica says so, which may be
        behind, or the leader.

        Raises:
            StreamAway
        """
        async with self._within() as connection:
            try:
                found = await connection.stream.get_msg(
                    self._name, seq=number, direct=not of_leader
                )
            except NotFoundError:
                return None
            return found.data or b""

    async def first(self, subjects: str) -> tuple[int, bytes] | None:
        """Return the number and the body of what came first under these subjects.

        Raises:
            StreamAway
        """
        async with self._within() as connection:
            try:
                found = await connection.stream.get_msg(
                    self._name, seq=1, subject=self._base + subjects, direct=True, next=True
                )
            except NotFoundError:
                return None
            return found.seq or 0, found.data or b""

    async def claim(self, number: int) -> bool:
        """Take something out of the stream; False where somebody else has done so. What is followed
        is dropped by `drop`.

        Raises:
            StreamAway: it may be gone.
        """
        async with self._within() as connection:
            try:
                return await connection.stream.delete_msg(self._name, number)
            except APIError as error:
                if error.code in (400, 404, 500):  # No such message; it differs by version.
                    return False
                raise

    async def count(self, subjects: str) -> int:
        """Return how many things are under these subjects.

        Raises:
            StreamAway
        """
        async with self._within() as connection:
            info = await connection.stream.stream_info(
                self._name, subjects_filter=self._base + subjects
            )
            return sum((info.state.subjects or {}).values())

    async def purge(self, subjects: str) -> None:
        """Take out all that is under these subjects, which nobody follows.

        Raises:
            StreamAway
        """
        async with self._within() as connection:
            await connection.stream.purge_stream(self._name, subject=self._base + subjects)

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Within this, wait for what is said in the stream: as long as for an answer.

        Raises:
            StreamAway: it was not said in time.
        """
        async with self._within():
            yield

    # -- inside ---------------------------------------------------------------------------------

    def _mark(self, subject: str) -> "asyncio.Task[api.PubAck]":
        headers = {api.Header.ROLLUP.value: "sub"}
        return self._put(subject, b"", b"", _MARKED, headers)

    def _put(
        self, subject: str, said: bytes, body: bytes, lifetime: float, headers: dict[str, str]
    ) -> "asyncio.Task[api.PubAck]":
        full = self._base + subject
        headers[_HEADER] = b64encode(self._seal.wrap(full, said)).decode()
        if self._connection is None:
            raise StreamAway(_NONE)
        # A task writes as it begins: so what is put is in the stream in the same order. The
        # library's own `publish_async` never ends where the server refuses.
        return asyncio.get_running_loop().create_task(
            self._connection.stream.publish(
                full, body, stream=self._name, headers=headers, msg_ttl=max(1.0, lifetime)
            )
        )

    @contextlib.asynccontextmanager
    async def _within(self) -> AsyncIterator[_Connection]:
        connection = self._connection
        if connection is None:
            raise StreamAway(_NONE)
        try:
            async with asyncio.timeout(ANSWER) as deadline:
                connection.waiting.add(deadline)
                try:
                    yield connection
                finally:
                    connection.waiting.discard(deadline)
        except TimeoutError:
            raise _Unanswered("NATS did not answer in time") from None
        except APIError as error:
            if error.err_code in _FULL:
                raise StreamFull(str(error.description)) from None
            raise StreamAway(f"NATS: {error.description}") from None
        except (nats.errors.Error, OSError) as error:
            raise StreamAway(in_words(error)) from None

    async def _make(self, stream: JetStreamContext) -> int:
        config = api.StreamConfig(
            name=self._name,
            description="Letters for peers who are away (Roam Relay)",
            subjects=[f"{self._base}>"],
            storage=api.StorageType.FILE,
            discard=api.DiscardPolicy.NEW,
            num_replicas=self._replicas,
            max_msgs_per_subject=1,
            allow_rollup_hdrs=True,
            allow_direct=True,
            allow_msg_ttl=True,
        )
        try:
            info = await stream.add_stream(config)
        except APIError as error:
            if error.err_code != _IN_USE:
                raise
            info = await self._brought_up(stream, config)
        return info.state.last_seq

    async def _brought_up(
        self, stream: JetStreamContext, wanted: api.StreamConfig
    ) -> api.StreamInfo:
        """Let a stream that is there have what this needs of it. What an operator has set besides
        stays, as bounds; and how many servers have it, which nodes may be told differently."""
        info = await stream.stream_info(self._name)
        there = info.config
        needed = {name: getattr(wanted, name) for name in _NEEDED}
        if there.num_replicas != wanted.num_replicas:
            log.warning(
                "the stream of letters has another number of replicas than is configured",
                there=there.num_replicas,
                configured=wanted.num_replicas,
            )
        if all(getattr(there, name) == value for name, value in needed.items()):
            return info
        return await stream.update_stream(there.evolve(**needed))

    def _follower(self, inbox: str) -> api.ConsumerConfig:
        return api.ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.NONE,
            filter_subject=f"{self._base}at.>",
            headers_only=True,
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

    async def _take(self, connection: _Connection, message: Msg, follower: Follower) -> None:
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
                follower.whole()  # It is idle, and does not wait for this side.
            return
        about = message.metadata
        if about.sequence.consumer != connection.delivered + 1:
            self._missed(connection)
            return
        connection.delivered += 1
        connection.is_stuck = False
        try:
            sealed = b64decode(headers.get(_HEADER, ""), validate=True)
            said = self._seal.unwrap(message.subject, sealed)
        except (Foreign, binascii.Error):
            if not connection.has_complained:
                connection.has_complained = True
                log.warning("what no relay of this cluster has said is in the stream of letters")
        else:
            is_gone = headers.get(api.Header.ROLLUP) is not None
            at, number = about.timestamp.timestamp(), about.sequence.stream
            subject = message.subject.removeprefix(self._base)
            follower.hear(Heard(subject, number, at, None if is_gone else said))
        if not about.num_pending:
            follower.whole()

    def _note_stuck(self, connection: _Connection) -> None:
        if connection is self._connection and not connection.is_stuck:
            connection.is_stuck = True
            log.warning(
                "NATS does not answer to what it is to keep: if its disk was full it is to be "
                "started anew"
            )

    def _missed(self, connection: _Connection) -> None:
        log.warning("something in the stream of letters was missed: all of it is read anew")
        connection.ended.set()
