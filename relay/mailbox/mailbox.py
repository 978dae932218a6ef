"""The mailbox of one relay: what peers ask of it, asked of the store, and letters handed over.

What a letter must be sealed for, and what is in it, is nothing to the relay. Where letters are kept
is the store's: in a file of this relay, or in a stream of all relays of a cluster.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from protocol.errors import Code
from protocol.mail import (
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
    PrekeyRequest,
    PrekeyResponse,
)
from protocol.messages import Message
from protocol.prekeys import SignedPrekey
from relay.config import MailboxConfig
from relay.limits import Cause, Counts, Rates
from relay.log import log
from relay.mailbox.local import Spawn
from relay.mailbox.quotas import Ledger, NoRoom
from relay.mailbox.stores import Kept, LetterStore, StoreFault
from relay.mailbox.waker import Waker
from relay.metrics import Metrics
from relay.store import StoreFailed

__all__ = ["Asked", "Mailbox", "Reader"]

Asked: TypeAlias = MailboxUpdate | PrekeyRequest | LetterLeave
"""What is answered."""

_ON_THE_WAY = 262_144
"""Bytes of letters that are on their way to one recipient, beyond the first."""
_AT_ONCE = 8
"""Letters that are read from the store in one go."""
_WAITING_EACH, _WAITING = 16, 512
"""Things that may wait for the store: of one peer (of its network four times as many), and in all:
32 MiB of letters."""
_ONE_TIME_EACH, _ONE_TIME_PER_SECOND = 16, 1 / 3600
"""Prekeys for one letter each that one sender gets of one recipient: at once, and sustained."""
_NETWORK = 4
"""Times of what one peer may leave a second that all of its network may."""
_RETRY = 30.0
"""Seconds after which a sender tries again, where the relay cannot store a letter."""
_FULL = 300.0
"""The same, where there is no room for it."""
_AWAY = 2.0
"""The same, where the cluster's store cannot be asked now."""
_TELL = 60.0
"""Seconds between two lines in the log that say that the store takes nothing."""


class Reader(Protocol):
    """A registered control connection."""

    guid: str
    cause: Cause
    """Who is charged for what it asks."""

    def send(self, message: Message) -> None:
        """Queue a message."""


@dataclass(slots=True, eq=False)
class _Reading:
    """How far a recipient has been handed its letters on one connection."""

    reader: Reader
    window: int = 0
    last: int = 0
    """The number of the letter handed over last."""
    handed: dict[int, int] = field(default_factory=dict)
    """The letters on their way: number to bytes."""
    safe: set[int] = field(default_factory=set)
    """Those that are done, and not forgotten yet."""
    is_reading: bool = False
    has_more: bool = False
    """Whether something has come while it was reading."""
    is_dropping: bool = False

    @property
    def room(self) -> int:
        """How many more may be on their way."""
        if self.handed and sum(self.handed.values()) >= _ON_THE_WAY:
            return 0
        return max(0, self.window - len(self.handed))


class Mailbox:
    """The mailbox of one relay. Call `open` first and `close` last."""

    def __init__(
        self,
        config: MailboxConfig,
        store: LetterStore,
        metrics: Metrics,
        clock: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        """`clock` gives Unix time, as the store's does."""
        self._config = config
        self.store = store
        self._metrics = metrics
        self._clock = clock
        self._is_closed = False
        self._readings: dict[str, _Reading] = {}
        self._counts = Counts(_WAITING_EACH, _WAITING)
        self._rates = Rates(config.letters_per_second, config.letters_burst)
        self._network_rates = Rates(
            _NETWORK * config.letters_per_second, _NETWORK * config.letters_burst
        )
        self._one_time = Rates(_ONE_TIME_PER_SECOND, _ONE_TIME_EACH)
        self._told = -_TELL
        self._waker = (
            None
            if config.wake_url is None
            else Waker(
                config.wake_url,
                config.wake_pause,
                lambda guid: self.ledger.waiting(guid),
                metrics,
                spawn,
            )
        )

    @property
    def ledger(self) -> Ledger:
        """What waits, and of whom."""
        return self.store.ledger

    async def open(self) -> None:
        """Open the store.

        Raises:
            ConfigError: it cannot be used.
        """
        await self.store.open(self)

    async def close(self) -> None:
        """Close the store. What waits for it is not done, and its senders leave it again."""
        self._is_closed = True
        await self.store.close()

    # -- what peers say -------------------------------------------------------------------------

    def take(self, peer: Reader, asked: Asked, now: float) -> None:
        """Do what a peer asks, and answer it. `now` is the relay's own clock."""
        if wait := self._wait_of(peer, asked, now):
            said = NoRoom(Code.LIMIT_EXCEEDED, "too many letters a second", "letters_rate")
            self._refuse(peer, asked, said, wait)
            return
        place = self._counts.take(peer.guid, peer.cause.network)
        if place is None:
            busy = NoRoom(Code.LIMIT_EXCEEDED, "too many letters at once", "letters_waiting")
            self._refuse(peer, asked, busy, 1.0)
            return

        def done(result: object) -> None:
            place.release()
            self._answer(peer, asked, result)

        guid, network = peer.guid, peer.cause.network
        match asked:
            case MailboxUpdate():
                self.store.update(guid, network, asked, done)
            case PrekeyRequest(guid=recipient, service=service):
                is_one = not self._one_time.take(f"{guid}/{recipient}", now)
                self.store.prekey(guid, (recipient, service), is_one, done)
            case LetterLeave():
                cause = Cause(peer.cause.wide, network, guid)
                lifetime = min(asked.lifetime, self._config.lifetime)
                self.store.leave(cause, asked, lifetime, done)

    def window(self, peer: Reader, said: LetterWindow) -> None:
        """Hand so many letters over to a recipient, and no more before it is done with some."""
        reading = self._readings.get(peer.guid)
        if reading is None or reading.reader is not peer:
            # The last connection that wants them gets them, from the first that is not done.
            reading = self._readings[peer.guid] = _Reading(peer)
        reading.window = said.letters
        if self._waker is not None:
            self._waker.read(peer.guid)
        self._hand_over(reading)

    def done(self, peer: Reader, said: LetterDone) -> None:
        """Letters are safe with their recipient. Only what was handed over on that connection
        counts: whatever else it names is nothing to it."""
        reading = self._readings.get(peer.guid)
        if reading is None or reading.reader is not peer:
            return
        for number in said.numbers:
            if reading.handed.pop(number, None) is not None:
                reading.safe.add(number)
        self._drop_safe(reading)
        self._hand_over(reading)

    def lost(self, peer: Reader) -> None:
        """A connection has ended."""
        reading = self._readings.get(peer.guid)
        if reading is not None and reading.reader is peer:
            del self._readings[peer.guid]
            # It may have been asleep for longer than its connection was there.
            if self._waker is not None and reading.handed:
                self._waker.came(peer.guid)

    # -- what the store says --------------------------------------------------------------------

    def came(self, guid: str) -> None:
        """There is a letter more for a peer."""
        reading = self._readings.get(guid)
        if reading is not None:
            self._hand_over(reading)
        elif self._waker is not None and self.store.wakes(guid):
            self._waker.came(guid)

    def again(self, last: int) -> None:
        """The store was away, and is back: whoever reads goes on."""
        for reading in list(self._readings.values()):
            if reading.last > last:
                # The letters of before are lost, and their numbers are given anew.
                reading.last = 0
                reading.handed.clear()
                reading.safe.clear()
            self._drop_safe(reading)
            self._hand_over(reading)

    # -- the relay's side -----------------------------------------------------------------------

    async def forget(self, guid: str) -> bool:
        """Remove all that is kept of a peer, from the disk too; return whether there was any.

        Raises:
            StoreFailed: it may be there still.
        """
        return await self.store.forget(guid) > 0

    def sweep(self) -> None:
        """Drop what has expired: call it every minute."""

        def done(dropped: int | StoreFailed) -> None:
            if isinstance(dropped, int) and dropped:
                self._metrics.letters["expired"] += dropped
                self.sweep()  # As long as there are more.

        self.store.expire(done)
        for reading in list(self._readings.values()):
            self._drop_safe(reading)
            if reading.has_more:
                self._hand_over(reading)

    def counts(self) -> dict[str, float]:
        """Return what waits now, for the metrics."""
        ledger = self.ledger
        return {"letters": ledger.letters, "bytes": ledger.size, "peers": ledger.boxes}

    # -- inside ---------------------------------------------------------------------------------

    def _wait_of(self, peer: Reader, asked: Asked, now: float) -> float:
        if not isinstance(asked, LetterLeave):
            return 0.0
        wait = self._rates.take(peer.guid, now)
        return wait or self._network_rates.take(peer.cause.network, now)

    def _answer(self, peer: Reader, asked: Asked, result: object) -> None:
        match asked, result:
            case _, StoreFailed():
                self._tell_of_store(result)
                said = NoRoom(
                    Code.MAILBOX_FULL,
                    "the relay cannot store it: its disk may be full",
                    "letters_store",
                )
                if self._is_closed or isinstance(result, StoreFault):
                    reason = "the relay goes down" if self._is_closed else str(result)
                    said = NoRoom(Code.INTERNAL, reason, "letters_store")
                self._refuse(peer, asked, said, _RETRY)
            case _, NoRoom():
                is_away = result.code is Code.CLUSTER_UNAVAILABLE
                self._refuse(peer, asked, result, _AWAY if is_away else _FULL)
            case MailboxUpdate(), (int(one_time), int(letters)):
                peer.send(MailboxState(asked.request, one_time=one_time, letters=letters))
            case PrekeyRequest(), SignedPrekey():
                peer.send(PrekeyResponse(asked.request, prekey=result))
            case LetterLeave(), Kept(lifetime, is_new):
                self._metrics.letters["stored" if is_new else "again"] += 1
                peer.send(LetterResponse(asked.request, lifetime=lifetime))
            case _:
                raise TypeError(f"not an answer: {type(result).__name__}")

    def _refuse(self, peer: Reader, asked: Asked, said: NoRoom, wait: float) -> None:
        if isinstance(asked, LetterLeave):
            self._metrics.letters[said.code.value] += 1
        if said.code is not Code.LETTER_REFUSED:
            self._metrics.limited[said.what] += 1
        after = None if said.code is Code.LETTER_REFUSED else wait
        kind = {
            MailboxUpdate: MailboxState,
            PrekeyRequest: PrekeyResponse,
            LetterLeave: LetterResponse,
        }[type(asked)]
        peer.send(kind(asked.request, said.code, said.reason, after))

    def _hand_over(self, reading: _Reading) -> None:
        """Read what may be handed over now; more when that is done."""
        if reading.is_reading:
            reading.has_more = True
            return
        most = min(_AT_ONCE, reading.room)
        if not most:
            return
        reading.is_reading, reading.has_more = True, False
        guid = reading.reader.guid

        def done(letters: list[Letter] | StoreFailed) -> None:
            reading.is_reading = False
            if isinstance(letters, StoreFailed):
                # It is tried again with the next sweep.
                reading.has_more = True
                self._tell_of_store(letters)
                return
            if self._readings.get(guid) is not reading:
                return
            for letter in letters:
                if not reading.room:
                    reading.has_more = True
                    break
                reading.last = letter.number
                reading.handed[letter.number] = len(letter.sealed)
                self._metrics.letters["handed"] += 1
                reading.reader.send(letter)
            if reading.has_more or len(letters) == most:
                self._hand_over(reading)

        self.store.after(guid, reading.last, most, done)

    def _drop_safe(self, reading: _Reading) -> None:
        """Forget letters that are safe; those that are done meanwhile, when that is done."""
        if reading.is_dropping or not reading.safe:
            return
        numbers, guid = sorted(reading.safe), reading.reader.guid
        reading.safe.clear()
        reading.is_dropping = True

        def done(dropped: int | StoreFailed) -> None:
            reading.is_dropping = False
            if isinstance(dropped, StoreFailed):
                # It is tried again with the next sweep, and else the letters come again.
                reading.safe.update(numbers)
                self._tell_of_store(dropped)
                return
            self._metrics.letters["done"] += dropped
            self._drop_safe(reading)

        self.store.done(guid, numbers, done)

    def _tell_of_store(self, error: StoreFailed) -> None:
        """Whoever asks again and again for what fails fills no log."""
        now = self._clock()
        if isinstance(error, StoreFault) or self._is_closed or abs(now - self._told) < _TELL:
            return
        self._told = now
        log.warning("the mailbox cannot store anything", reason=str(error))
