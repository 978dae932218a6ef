"""The stream of JetStream that the letters of a cluster are in: what is put into it and read from
it, and what is said in it, unsealed.

How it is followed is in `jetstream.py`; what is in it by what name, and what that means, in
`letters.py`.
"""

import asyncio
import binascii
import contextlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from relay.backplane import Foreign, Seal
from relay.cluster.jetstream import IN_USE, Followed, Reader, Source, StreamAway, StreamFull
from relay.cluster.servers import Servers
from relay.log import log

__all__ = ["Follower", "Heard", "LetterStream", "StreamAway", "StreamFull", "stream_name"]

_MARKED = 600
"""Seconds for which it is said in the stream that something is in it no more: who has heard nothing
for so long begins from what is there."""
_HEADER = "Roam-Relay"
_NEEDED = (
    *("subjects", "discard", "max_msgs_per_subject"),
    *("allow_rollup_hdrs", "allow_direct", "allow_msg_ttl"),
)
"""What a stream must have as it is made here."""


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


def stream_name(prefix: str) -> str:
    """Return the name of the stream of a cluster's letters."""
    return f"{prefix}_mail"


class LetterStream:
    """The stream, as one node has it: while `run` runs."""

    def __init__(self, prefix: str, servers: Servers, seal: Seal, replicas: int) -> None:
        self._base = f"{prefix}.1.mail."
        self._name = stream_name(prefix)
        self._seal = seal
        self._replicas = replicas
        self._followed = Followed(
            servers, Source(self._name, f"{self._base}at.>", "letters", headers_only=True)
        )

    async def run(self, follower: Follower) -> None:
        """Connect, make the stream where there is none, tell all that is in it and what is put into
        it from then on, until the connection is over.

        Raises:
            LinkLost: always in the end; says why.
        """

        def read(message: Msg) -> None:
            heard = self._heard(message)
            if heard is not None:
                follower.hear(heard)

        await self._followed.run(Reader(self._make, follower.opened, read, follower.whole))

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
        try:
            async with self._followed.within():
                return (await put).seq
        finally:
            if not put.cancel() and not put.cancelled():
                put.exception()  # Where nobody has waited for it, it is not lost either.

    async def read(self, number: int, *, of_leader: bool = False) -> bytes | None:
        """Return what is under a number; None where nothing is. Any replica says so, which may be
        behind, or the leader.

        Raises:
            StreamAway
        """
        async with self._followed.within() as stream:
            try:
                found = await stream.get_msg(self._name, seq=number, direct=not of_leader)
            except NotFoundError:
                return None
            return found.data or b""

    async def first(self, subjects: str) -> tuple[int, bytes] | None:
        """Return the number and the body of what came first under these subjects.

        Raises:
            StreamAway
        """
        async with self._followed.within() as stream:
            try:
                found = await stream.get_msg(
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
        async with self._followed.within() as stream:
            try:
                return await stream.delete_msg(self._name, number)
            except APIError as error:
                if error.code in (400, 404, 500):  # No such message; it differs by version.
                    return False
                raise

    async def count(self, subjects: str) -> int:
        """Return how many things are under these subjects.

        Raises:
            StreamAway
        """
        async with self._followed.within() as stream:
            info = await stream.stream_info(self._name, subjects_filter=self._base + subjects)
            return sum((info.state.subjects or {}).values())

    async def purge(self, subjects: str) -> None:
        """Take out all that is under these subjects, which nobody follows.

        Raises:
            StreamAway
        """
        async with self._followed.within() as stream:
            await stream.purge_stream(self._name, subject=self._base + subjects)

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Within this, wait for what is said in the stream: as long as for an answer.

        Raises:
            StreamAway: it was not said in time.
        """
        async with self._followed.within():
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
        stream = self._followed.stream()
        # A task writes as it begins: so what is put is in the stream in the same order. The
        # library's own `publish_async` never ends where the server refuses.
        return asyncio.get_running_loop().create_task(
            stream.publish(
                full, body, stream=self._name, headers=headers, msg_ttl=max(1.0, lifetime)
            )
        )

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
            if error.err_code != IN_USE:
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

    def _heard(self, message: Msg) -> Heard | None:
        """Return what was said in the stream; None where no relay of this cluster has said it."""
        headers, about = message.headers or {}, message.metadata
        try:
            sealed = b64decode(headers.get(_HEADER, ""), validate=True)
            said = self._seal.unwrap(message.subject, sealed)
        except (Foreign, binascii.Error):
            self._followed.complain()
            return None
        is_gone = headers.get(api.Header.ROLLUP) is not None
        at, number = about.timestamp.timestamp(), about.sequence.stream
        subject = message.subject.removeprefix(self._base)
        return Heard(subject, number, at, None if is_gone else said)
