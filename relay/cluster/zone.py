"""What updates have registered in the zone of a cluster: a `ZoneStore` (relay/dns) in one bucket of
JetStream, the same at every node.

Rule 1: what is in the bucket is what there is, by GUID. A node changes what it has heard there and
nothing else: where another one was faster, it hears that first, and judges the update anew.
Rule 2: a change is done when this node has heard it in the bucket, behind all that came before.
Rule 3: what was heard once holds while NATS is away; what has gone meanwhile goes when all of the
bucket has been heard again.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec

from relay.backplane import Naming, ZoneUpdate
from relay.cluster.bucket import Bucket, Contents
from relay.cluster.jetstream import StreamAway
from relay.log import log
from relay.store import StoreConflict, StoreFailed

__all__ = ["ZONE", "ZoneUpdates"]

ZONE = Contents("zone", "what updates have registered in the zone")
_TRIES = 8
"""Times that another node may be faster."""
_DROPPED = 600.0
"""Seconds for which it is said in the bucket that nothing is registered any more: who has heard
nothing for so long begins from what is there."""


class _Value(msgspec.Struct, frozen=True, array_like=True):
    at: Annotated[float, msgspec.Meta(ge=0)]
    """Unix time, by the clock of the node that has put it there."""
    mac: bytes
    """Of the update's signature: no node makes it twice."""
    serial: Annotated[int, msgspec.Meta(ge=0)]
    """Of the zone, with this."""
    records: bytes
    """Empty: none are registered."""


class _Known(NamedTuple):
    revision: int
    at: float
    is_there: bool


_NEVER = _Known(0, 0.0, False)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Value).decode


class ZoneUpdates:
    """As one node has them: from `open` to `close`."""

    def __init__(self, bucket: Bucket, naming: Naming, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._naming = naming
        self._clock = clock
        self._remember = 0.0
        self._told: Callable[[ZoneUpdate], None] = lambda update: None
        self._known: dict[str, _Known] = {}
        """What is registered, or was until a while ago: in the order of the bucket."""
        self._unheard: set[str] | None = None
        """Who was known, and was not heard of in the bucket since it is read anew; None: all of it
        was heard."""
        self._last = 0
        """The revision that was heard last."""
        self._own: set[bytes] = set()
        """Signatures of updates that were put into the bucket here, and were not heard yet."""
        self._heard = asyncio.Event()
        """Set whenever something was heard."""
        self._reason = "it is being read"
        """Why the bucket cannot be asked; empty: it can be."""
        self._state = ""
        """What was logged of it last."""
        self._serving: asyncio.Task[None] | None = None
        self.has_learned = False
        """Whether it is known, or was once, what is registered."""

    async def open(self, remember: float, told: Callable[[ZoneUpdate], None]) -> None:
        """Tell what is registered from now on, in the background. What nobody has renewed for
        `remember` seconds is not, any more."""
        self._remember, self._told = remember, told
        self._serving = asyncio.get_running_loop().create_task(self._bucket.serve(self))

    async def close(self) -> None:
        """Hear nothing more."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            # No timeout: what it awaits at its end has one.
            await asyncio.wait((serving,))

    async def change(self, guid: str, mac: bytes, make: Callable[[], bytes]) -> None:
        """Register what `make` returns for a peer, in place of what is; it is asked again where
        that has changed meanwhile, and may raise.

        Raises:
            StoreFailed: it is not registered; or, `StoreUnsure`, it may be.
        """
        for _ in range(_TRIES):
            if self._reason:
                raise StreamAway(self._reason)
            known = self._known.get(guid, _NEVER)
            records = make()
            if not records and not known.is_there:
                return
            self._naming.changed()
            value = _encode(_Value(self._clock(), mac, self._naming.serial, records))
            lifetime = self._remember if records else _DROPPED
            self._own.add(mac)
            try:
                number = await self._bucket.put(guid, value, last=known.revision, lifetime=lifetime)
                await self._until_heard(number)
            except StoreConflict:
                await self._catch_up(guid)
            else:
                return
            finally:
                self._own.discard(mac)
        raise StoreFailed("other nodes change it all the time")

    async def forget(self, guid: str) -> None:
        """Nothing is registered for a peer any more.

        Raises:
            StoreFailed: it may be still.
        """
        await self.change(guid, b"", bytes)

    async def drop_old(self, remember: float) -> None:
        """Drop what nobody has renewed for so long: NATS does so by itself, and says nothing."""
        oldest = self._clock() - remember
        while self._known:
            guid = next(iter(self._known))
            if self._known[guid].at >= oldest:
                return
            self._gone(guid)

    # -- what the bucket says -------------------------------------------------------------------

    def opened(self, last: int) -> None:
        self._unheard, self._last = set(self._known), 0

    def hear(self, key: str, revision: int, value: bytes | None) -> None:
        self._last = revision
        if self._unheard is not None:
            self._unheard.discard(key)
        try:
            said = _decode(value) if value is not None else None
        except msgspec.MsgspecError:
            log.warning("something registered in the zone cannot be read: of another version?")
            said = None
        before = self._known.pop(key, None)
        if said is None:
            self._told(ZoneUpdate(key, b""))
        else:
            self._known[key] = _Known(revision, said.at, bool(said.records))
            if before is None or before.revision != revision:
                is_own = said.mac in self._own
                self._told(ZoneUpdate(key, said.records, said.mac, said.serial, is_own))
        self._heard.set()

    def hear_foreign(self, key: str, revision: int) -> None:
        # What was there is not any more; the next update takes its place.
        self._last = revision
        if self._unheard is not None:
            self._unheard.discard(key)
        self._gone(key)
        self._known[key] = _Known(revision, self._clock(), False)
        self._heard.set()

    def whole(self) -> None:
        unheard, self._unheard = self._unheard, None
        for guid in unheard or ():
            self._gone(guid)
        self.has_learned, self._reason = True, ""
        if unheard is not None:
            self._state = ""
            log.info("DNS updates are shared", peers=len(self._known))

    def lost(self, reason: str, *, missing: bool) -> None:
        self._reason = reason
        if missing:
            self.has_learned = True  # There is nothing to learn.
        if reason != self._state:
            self._state = reason
            log.warning("no DNS updates are taken now", reason=reason)

    # -- inside ---------------------------------------------------------------------------------

    def _gone(self, guid: str) -> None:
        if self._known.pop(guid, None) is not None:
            self._told(ZoneUpdate(guid, b""))

    async def _until_heard(self, number: int) -> None:
        async with self._bucket.waiting():
            while self._last < number:
                self._heard.clear()
                await self._heard.wait()

    async def _catch_up(self, guid: str) -> None:
        """Hear what another node has put there; or that nothing is there any more."""
        number = await self._bucket.revision(guid)
        if number:
            with contextlib.suppress(StoreConflict):
                await self._until_heard(number)
        else:
            self._gone(guid)
