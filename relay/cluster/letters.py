"""The letters of a cluster: a `LetterStore` in one stream of JetStream, the same at every node.

Rule 1: what is in the stream is what there is. A letter, and what a recipient says of its mailbox,
is one message with a subject of its own; when it is done another one in its place says so, which is
gone by itself later. Its time, too, ends in the stream.
Rule 2: each node follows the stream by its heads alone and counts (`letter_index.py`). What a node
puts into it is judged by that node when it hears it there, after all that came before: so bounds
hold for all nodes together. What does not fit is taken out again.
Rule 3: a prekey for one letter is given by the node that has deleted it: one of them has.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from os import urandom
from typing import Annotated, Any, TypeVar
from weakref import WeakValueDictionary

import msgspec

from protocol.errors import Code
from protocol.mail import Letter, LetterLeave, LetterService, MailboxUpdate
from protocol.prekeys import SignedPrekey
from relay.backplane import Seal
from relay.cluster.letter_index import BOX_LASTS, Box, Index, InStream, Name
from relay.cluster.link import LinkLost
from relay.cluster.servers import Servers, check_wanted
from relay.cluster.stream import Heard, LetterStream, StreamAway, StreamFull
from relay.config import RelayConfig
from relay.limits import Cause
from relay.log import guarded, log
from relay.mailbox import (
    MAX_ONE_TIME,
    REFUSED,
    Kept,
    Ledger,
    News,
    NoRoom,
    Quotas,
    Spawn,
    StoreFault,
    Then,
    Waiting,
    takes,
)
from relay.store import StoreFailed

__all__ = ["ClusterStore"]

_T = TypeVar("_T")

_AGAIN = 0.5
"""Seconds until the next connection is tried, and a random part of as much more."""
_TRIES = 8
"""Times that somebody else may have been faster."""
_POLICIES = 256
"""Recipients whose word on who may leave letters is remembered: 64 KiB each at most."""
_NO_PREKEY = SignedPrekey(b"", bytes(64))


class _LetterHead(msgspec.Struct, frozen=True, array_like=True):
    """What is said of a letter beside it; recipient, sender and id are in the subject."""

    service: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    digest: bytes
    lifetime: Annotated[int, msgspec.Meta(ge=0)]
    wide: str
    network: str
    is_stranger: bool
    token: bytes
    """By which the node that has put it there knows it."""


class _BoxHead(msgspec.Struct, frozen=True, array_like=True):
    network: str
    digest: bytes
    token: bytes


class _BoxBody(msgspec.Struct, frozen=True, array_like=True):
    services: tuple[LetterService, ...]
    prekey: SignedPrekey


_encode = msgspec.msgpack.Encoder().encode
_letter_head = msgspec.msgpack.Decoder(_LetterHead).decode
_box_head = msgspec.msgpack.Decoder(_BoxHead).decode
_box_body = msgspec.msgpack.Decoder(_BoxBody).decode


class ClusterStore:
    """The letters of all nodes, as one of them has them. `wakes` says whether it is this node that
    says of a peer that it has mail."""

    def __init__(
        self,
        config: RelayConfig,
        seal: Seal,
        wakes: Callable[[str], bool],
        clock: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        if config.cluster is None:
            raise ValueError("a cluster has a configuration")
        self._quotas = Quotas.of(config.mailbox)
        servers = Servers(config.cluster, config.in_state)
        self.stream = LetterStream(config.cluster.prefix, servers, seal, config.mailbox.replicas)
        self.wakes = wakes
        self._clock = clock
        self._spawn = spawn
        self._index = Index(self._quotas)
        self._last = 0
        """The number in the stream that was given last, when this node began to follow it."""
        self._news: News | None = None
        self._is_ready = False
        self._state = ""
        """What was logged of it last."""
        self._own: dict[bytes, asyncio.Future[NoRoom | None]] = {}
        """What was put into the stream here and was not heard yet."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of senders: their letters go into the stream one after the other."""
        self._policies: OrderedDict[bytes, _BoxBody] = OrderedDict()
        """By what their digests are."""
        self._serving: asyncio.Task[None] | None = None

    @property
    def ledger(self) -> Ledger:
        return self._index.ledger

    @property
    def is_ready(self) -> bool:
        """Whether letters are kept now."""
        return self._is_ready

    async def open(self, news: News) -> None:
        self._news = news
        self._serving = asyncio.get_running_loop().create_task(self._serve())

    async def close(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            # No timeout: what it awaits at its end has one.
            await asyncio.wait((serving,))

    # -- what is asked --------------------------------------------------------------------------

    def update(
        self, guid: str, network: str, said: MailboxUpdate, then: Then[tuple[int, int] | NoRoom]
    ) -> None:
        self._ask(self._update(guid, network, said), then)

    def prekey(
        self, sender: str, asked: tuple[str, str], one_time: bool, then: Then[SignedPrekey | NoRoom]
    ) -> None:
        self._ask(self._prekey(sender, *asked, one_time=one_time), then)

    def leave(
        self, sender: Cause, said: LetterLeave, lifetime: int, then: Then[Kept | NoRoom]
    ) -> None:
        self._ask(self._leave(sender, said, lifetime), then)

    def after(self, guid: str, number: int, most: int, then: Then[list[Letter]]) -> None:
        self._do(self._after(guid, number, most), then)

    def done(self, guid: str, numbers: list[int], then: Then[int]) -> None:
        self._do(self._done(guid, numbers), then)

    def expire(self, then: Then[int]) -> None:
        self._index.time(self._clock())
        expired, self._index.expired = self._index.expired, []
        # All nodes have dropped them: one counts.
        then(sum(map(self.wakes, expired)))

    async def forget(self, guid: str) -> int:
        index = self._whole()
        letters = index.of(guid)
        found = len(letters)
        for letter in letters:
            await self.stream.drop(_letter_subject(letter.name), letter.number)
        if (box := index.boxes.get(guid)) is not None:
            found += 1 + await self.stream.count(f"one.{guid}.*")
            await self.stream.purge(f"one.{guid}.*")
            await self.stream.drop(f"at.box.{guid}", box.number)
        return found

    # -- inside: asking -------------------------------------------------------------------------

    def _ask(self, work: Coroutine[Any, Any, _T | NoRoom], then: Then[_T | NoRoom]) -> None:
        async def asked() -> _T | NoRoom:
            try:
                return await work
            except StreamFull as error:
                said = f"the relay's cluster cannot store it: {error}"
                return NoRoom(Code.MAILBOX_FULL, said, "letters_store")
            except StreamAway as error:
                said = f"the letters of the relay's cluster cannot be reached: {error}"
                return NoRoom(Code.CLUSTER_UNAVAILABLE, said, "letters_cluster")

        self._do(asked(), then)

    def _do(self, work: Coroutine[Any, Any, _T], then: Then[_T]) -> None:
        async def worked() -> None:
            result: _T | StoreFailed = StoreFault("the relay failed")
            try:
                with guarded("keeping letters"):
                    try:
                        result = await work
                    except StoreFailed as error:
                        result = error
            finally:
                with guarded("answering about letters"):
                    then(result)

        self._spawn(worked())

    def _whole(self) -> Index:
        """Return the index, where it has all that is in the stream."""
        if not self._is_ready:
            raise StreamAway(self._state or "it is being read")
        return self._index

    async def _update(
        self, guid: str, network: str, said: MailboxUpdate
    ) -> tuple[int, int] | NoRoom:
        index = self._whole()
        if guid not in index.boxes:
            if said.prekey is None:
                return 0, index.ledger.waiting(guid)
            if not index.ledger.has_room_for_box(network):
                return NoRoom(
                    Code.LIMIT_EXCEEDED, "too many peers take letters here", "letters_boxes"
                )
        is_open = said.prekey is not None
        body = _encode(
            _BoxBody(said.services if is_open else (), said.prekey or _NO_PREKEY),
        )
        token = urandom(8)
        head = _encode(_BoxHead(network, _digest(body), token))
        async with self._turn(guid):
            await self._put(f"at.box.{guid}", head, body, BOX_LASTS, token)
            left = 0
            if not is_open:
                await self.stream.purge(f"one.{guid}.*")
            else:
                left = await self._one_time(guid, said.one_time)
        return left, self._index.ledger.waiting(guid)

    async def _one_time(self, guid: str, given: tuple[SignedPrekey, ...]) -> int:
        left = await self.stream.count(f"one.{guid}.*")
        given = given[: max(0, MAX_ONE_TIME - left)]
        if not given:
            return left
        puts = [
            self.stream.put(f"one.{guid}.{_digest(one.body).hex()}", b"", _encode(one), BOX_LASTS)
            for one in given
        ]
        ended = await asyncio.gather(*map(self.stream.number, puts), return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        return await self.stream.count(f"one.{guid}.*")

    async def _prekey(
        self, sender: str, recipient: str, service: str, *, one_time: bool
    ) -> SignedPrekey | NoRoom:
        box = await self._policy(recipient)
        if box is None or takes(box.services, sender, service) is None:
            return REFUSED
        for _ in range(_TRIES if one_time else 0):
            found = await self.stream.first(f"one.{recipient}.*")
            if found is None:
                break
            number, body = found
            if await self.stream.claim(number):
                return msgspec.msgpack.decode(body, type=SignedPrekey)
        return box.prekey

    async def _leave(self, sender: Cause, said: LetterLeave, lifetime: int) -> Kept | NoRoom:
        name, token = Name(said.guid, sender.key, said.id), urandom(8)
        async with self._turn(sender.key):
            box = await self._policy(said.guid)
            is_stranger = None if box is None else takes(box.services, sender.key, said.service)
            if is_stranger is None:
                return REFUSED
            index, now = self._whole(), self._clock()
            index.time(now)
            there = index.find(name)
            if there is not None:
                return Kept(int(there.expires - now), is_new=False)
            counted = Waiting(
                said.guid,
                sender.key,
                sender.wide,
                sender.network,
                len(said.sealed),
                is_stranger,
            )
            if (refusal := index.ledger.refusal(counted)) is not None:
                return refusal
            head = _LetterHead(
                said.service,
                len(said.sealed),
                _digest(said.sealed),
                lifetime,
                sender.wide,
                sender.network,
                is_stranger,
                token,
            )
            heard = self._own[token] = asyncio.get_running_loop().create_future()
            try:
                put = self.stream.put(_letter_subject(name), _encode(head), said.sealed, lifetime)
            except BaseException:
                del self._own[token]
                raise
        refusal = await self._heard(put, token, heard)
        if refusal is None:
            return Kept(lifetime, is_new=True)
        await self.stream.drop(_letter_subject(name))
        return refusal

    async def _put(
        self, subject: str, head: bytes, body: bytes, lifetime: float, token: bytes
    ) -> None:
        """Put something into the stream, and return when this node has heard it there."""
        heard = self._own[token] = asyncio.get_running_loop().create_future()
        try:
            put = self.stream.put(subject, head, body, lifetime)
        except BaseException:
            del self._own[token]
            raise
        await self._heard(put, token, heard)

    async def _heard(
        self,
        put: "asyncio.Task[Any]",
        token: bytes,
        heard: "asyncio.Future[NoRoom | None]",
    ) -> NoRoom | None:
        try:
            await self.stream.number(put)
            async with self.stream.waiting():
                return await heard
        finally:
            self._own.pop(token, None)

    async def _policy(self, guid: str) -> _BoxBody | None:
        """Return who may leave letters for a peer; None where it has said nothing."""
        for _ in range(_TRIES):
            box = self._whole().boxes.get(guid)
            if box is None:
                return None
            known = self._policies.get(box.digest)
            if known is not None:
                self._policies.move_to_end(box.digest)
                return known
            body = await self.stream.read(box.number)
            if body is not None and _digest(body) == box.digest:
                said = self._policies[box.digest] = _box_body(body)
                while len(self._policies) > _POLICIES:
                    self._policies.popitem(last=False)
                return said
            # It has said something else meanwhile.
            await asyncio.sleep(0.05)
        raise StreamAway("what the recipient has said is not there")

    async def _after(self, guid: str, number: int, most: int) -> list[Letter]:
        index, now = self._whole(), self._clock()
        found: list[Letter] = []
        wanted = index.after(guid, number, now)
        while len(found) < most:
            some = [one for _, one in zip(range(most - len(found)), wanted, strict=False)]
            if not some:
                break
            bodies = await asyncio.gather(*(self.stream.read(one.number) for one in some))
            for one, body in zip(some, bodies, strict=True):
                if body is None or _digest(body) != one.digest:
                    # A replica may be behind; the leader knows.
                    body = await self.stream.read(one.number, of_leader=True)
                if body is None or _digest(body) != one.digest:
                    index.drop(one.name, one.number + 1)
                    continue
                age = min(max(now - one.came, 0.0), 31_536_000.0)
                sender, name = one.name.sender, one.name.id
                found.append(Letter(one.number, sender, one.service, name, body, age))
        return found

    async def _done(self, guid: str, numbers: list[int]) -> int:
        index = self._whole()
        found = [one for number in numbers if (one := index.get(guid, number)) is not None]
        ended = await asyncio.gather(
            *(self.stream.drop(_letter_subject(one.name), one.number) for one in found),
            return_exceptions=True,
        )
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        return len(found)

    def _turn(self, guid: str) -> asyncio.Lock:
        turn = self._turns.get(guid)
        if turn is None:
            turn = self._turns[guid] = asyncio.Lock()
        return turn

    # -- what the stream says -------------------------------------------------------------------

    def opened(self, last: int) -> None:
        """It is told from the beginning from now on."""
        expired = self._index.expired
        self._index, self._last = Index(self._quotas), last
        self._index.expired = expired

    def hear(self, heard: Heard) -> None:
        """Something is there, or was put there."""
        self._index.time(heard.at)
        kind, _, rest = heard.subject.removeprefix("at.").partition(".")
        try:
            if kind == "letter":
                self._hear_letter(heard, rest)
            elif kind == "box":
                self._hear_box(heard, rest)
        except (ValueError, msgspec.MsgspecError):
            log.warning("something in the stream of letters cannot be read: of another version?")

    def whole(self) -> None:
        """Nothing else is there now."""
        if self._is_ready or self._news is None:
            return
        self._is_ready, self._state = True, ""
        log.info("letters are kept", waiting=self._index.ledger.letters)
        self._news.again(self._last)

    # -- inside: the stream ---------------------------------------------------------------------

    async def _serve(self) -> None:
        """Follow the stream, as long as the relay serves."""
        while True:
            reason = "it has failed"
            with guarded("keeping the stream of letters"):
                try:
                    await self.stream.run(self)
                except LinkLost as error:
                    reason = error.reason
            check_wanted()
            self._is_ready = False
            if reason != self._state:
                self._state = reason
                log.warning("letters are not kept now", reason=reason)
            await asyncio.sleep(_AGAIN * (1 + random.random()))

    def _hear_letter(self, heard: Heard, rest: str) -> None:
        recipient, sender, name_hex = rest.split(".")
        name = Name(recipient, sender, bytes.fromhex(name_hex))
        if heard.said is None:
            self._index.drop(name, heard.number)
            return
        head = _letter_head(heard.said)
        counted = Waiting(recipient, sender, head.wide, head.network, head.size, head.is_stranger)
        self._index.drop(name)
        refusal = self._index.ledger.refusal(counted)
        self._index.put(
            InStream(
                heard.number,
                name,
                head.service,
                heard.at,
                heard.at + head.lifetime,
                head.digest,
                counted,
            )
        )
        own = self._own.get(head.token)
        if own is not None and not own.done():
            own.set_result(refusal)
        if self._is_ready and self._news is not None and (own is None or refusal is None):
            self._news.came(recipient)

    def _hear_box(self, heard: Heard, guid: str) -> None:
        if heard.said is None:
            self._index.drop_box(guid)
            return
        head = _box_head(heard.said)
        box = Box(heard.number, head.network, head.digest, heard.at + BOX_LASTS)
        self._index.put_box(guid, box)
        own = self._own.get(head.token)
        if own is not None and not own.done():
            own.set_result(None)


def _letter_subject(name: Name) -> str:
    return f"at.letter.{name.recipient}.{name.sender}.{name.id.hex()}"


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
