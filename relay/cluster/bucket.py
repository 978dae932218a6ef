"""What the operator of a cluster has said, or what updates have registered in its zone, in a bucket
of JetStream (KV) that all nodes share: each value sealed, heard by every node in its order.

What is in it by what key, and what that means, is in `relay.admission`, and in `zone.py`. Keys
begin with a word that follows from the relay's own key: a relay of another key, or of the key
before, has its own part of the bucket. Foreign exceptions end here.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, BucketNotFoundError, NotFoundError

from relay.backplane import Foreign, Seal
from relay.cluster.jetstream import Followed, JetStreamMissing, Reader, Source
from relay.cluster.link import LinkLost
from relay.cluster.servers import Servers, check_wanted
from relay.config import RelayConfig
from relay.log import guarded
from relay.store import StoreConflict

__all__ = ["Bucket", "BucketFollower", "Contents", "bucket_name"]

_AGAIN = 0.5
"""Seconds until the next connection is tried, and a random part of as much more."""
_MISSING = 5.0
"""The same, where NATS has no JetStream."""
_DROPPED = 600
"""Seconds for which it is said in the bucket that something is in it no more: who has heard nothing
for so long begins from what is there."""
_CONFLICT = {10071, 10164}
"""Codes that say that somebody else was faster."""
_NEEDED = {"allow_msg_ttl": True, "allow_rollup_hdrs": True, "max_msgs_per_subject": 1}
"""What a bucket must have that somebody has made by hand."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a bucket is for."""

    word: str
    """In its name, and of which the keys are made."""
    what: str
    """In words, for the log."""


OPERATOR = Contents("operator", "what the operator has said")


class BucketFollower(Protocol):
    """Who is told all that is in the bucket."""

    def opened(self, last: int) -> None:
        """It is told from the beginning from now on; the revision that was given last is this."""

    def hear(self, key: str, revision: int, value: bytes | None) -> None:
        """A relay of this cluster has put something there, or (None) taken it away."""

    def hear_foreign(self, key: str, revision: int) -> None:
        """Somebody else has put something there, or taken something away."""

    def whole(self) -> None:
        """Nothing else is there now."""

    def lost(self, reason: str, *, missing: bool) -> None:
        """Nothing is heard from now on. `missing`: NATS has no JetStream."""


def bucket_name(prefix: str, contents: Contents = OPERATOR) -> str:
    """Return the name of a cluster's bucket; its stream's is that behind `KV_`."""
    return f"{prefix}_{contents.word}"


class Bucket:
    """The bucket as one node has it: while `serve` runs."""

    def __init__(self, config: RelayConfig, seal: Seal, contents: Contents = OPERATOR) -> None:
        if config.cluster is None:
            raise ValueError("a cluster has a configuration")
        self._contents = contents
        self._bucket = bucket_name(config.cluster.prefix, contents)
        self._seal = seal
        self._part = seal.word(contents.word)
        self._base = f"$KV.{self._bucket}.{self._part}."
        self._replicas = config.mailbox.replicas
        servers = Servers(config.cluster, config.in_state)
        source = Source(f"KV_{self._bucket}", f"{self._base}>", contents.what)
        self._followed = Followed(servers, source)

    async def serve(self, follower: BucketFollower) -> None:
        """Tell all that is in the bucket and what is put there, as long as the relay serves."""

        def read(message: Msg) -> None:
            self._read(message, follower)

        reader = Reader(self._make, follower.opened, read, follower.whole)
        while True:
            reason, pause = "it has failed", _AGAIN
            missing = False
            with guarded(f"keeping {self._contents.what}"):
                try:
                    await self._followed.run(reader)
                except JetStreamMissing as error:
                    reason, pause, missing = error.reason, _MISSING, True
                except LinkLost as error:
                    reason = error.reason
            check_wanted()
            follower.lost(reason, missing=missing)
            await asyncio.sleep(pause * (1 + random.random()))

    def again(self) -> None:
        """Read all of it anew."""
        self._followed.end()

    def name(self, text: str) -> str:
        """Return a part of a key for what a key cannot hold; nobody without the relay's key can
        tell what it is of."""
        return self._seal.word(f"{self._contents.word} {text}")

    async def put(
        self, key: str, value: bytes, *, last: int | None = None, lifetime: float | None = None
    ) -> int:
        """Put something under a key, in place of what is there, and return its revision. `last`:
        only where the revision there is this; 0: nothing is there.

        Raises:
            StoreConflict: another revision is there.
            StreamAway: it may be there, or not.
            StreamFull: it is not.
        """
        headers = {}
        if last is not None:
            headers[api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value] = str(last)
        return await self._publish(key, value, headers, lifetime)

    async def drop(self, key: str) -> int:
        """Take away what is under a key, and return the revision of that.

        Raises:
            StreamAway, StreamFull
        """
        headers = {"KV-Operation": "PURGE", api.Header.ROLLUP.value: "sub"}
        return await self._publish(key, b"", headers, _DROPPED)

    async def revision(self, key: str) -> int:
        """Return the revision of what is under a key; 0: nothing is.

        Raises:
            StreamAway
        """
        async with self._followed.within() as stream:
            try:
                found = await stream.get_last_msg(f"KV_{self._bucket}", self._base + key)
            except NotFoundError:
                return 0
            return found.seq or 0

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Within this, wait for what is said in the bucket: as long as for an answer.

        Raises:
            StreamAway: it was not said in time.
        """
        async with self._followed.within():
            yield

    # -- inside ---------------------------------------------------------------------------------

    async def _publish(
        self, key: str, value: bytes, headers: dict[str, str], lifetime: float | None
    ) -> int:
        subject = self._base + key
        async with self._followed.within() as stream:
            try:
                put = await stream.publish(
                    subject,
                    self._seal.wrap(subject, value),
                    stream=f"KV_{self._bucket}",
                    headers=headers,
                    msg_ttl=None if lifetime is None else max(1.0, lifetime),
                )
            except APIError as error:
                if error.err_code in _CONFLICT:
                    raise StoreConflict("somebody else was faster") from None
                raise
            return put.seq

    def _read(self, message: Msg, follower: BucketFollower) -> None:
        key = message.subject.removeprefix(self._base)
        revision = message.metadata.sequence.stream
        try:
            value = self._seal.unwrap(message.subject, message.data)
        except Foreign:
            self._followed.complain()
            follower.hear_foreign(key, revision)
            return
        # What takes something away says nothing else.
        follower.hear(key, revision, value or None)

    async def _make(self, stream: JetStreamContext) -> int:
        name = f"KV_{self._bucket}"
        try:
            await stream.key_value(self._bucket)
        except BucketNotFoundError:
            await stream.create_key_value(
                bucket=self._bucket,
                description=f"{self._contents.what.capitalize()} (Roam Relay)",
                history=1,
                storage=api.StorageType.FILE,
                replicas=self._replicas,
            )
        info = await stream.stream_info(name)
        there = info.config
        if any(getattr(there, key) != value for key, value in _NEEDED.items()):
            info = await stream.update_stream(there.evolve(**_NEEDED))
        return info.state.last_seq
