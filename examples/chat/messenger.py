"""The messenger without its screen: one peer, its contacts, and what passes between them.

A screen reads `contacts`, `link` and the book, and waits in `changed` for the next thing to show.
One life of the peer follows the other: where the mode of a contact or the relay is to be another,
the peer is closed and opened anew; conversations go on by themselves.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from msgspec import structs

from examples.chat import transfer
from examples.chat.book import Book, Contact, Standing
from examples.chat.clean import cleaned
from examples.chat.transfer import Offer, TransferFailed
from peers import (
    UNKNOWN,
    AddressSource,
    ContactLink,
    Conversation,
    Identity,
    Message,
    Mode,
    Peer,
    PeerConfig,
    RoamRelayError,
    Session,
    SessionRequest,
    Status,
    UsageError,
)

__all__ = ["CHAT", "FILES", "Friend", "Messenger", "Place"]

CHAT = "chat"
"""The service of messages: each is a text in UTF-8, so that `peer write` can write one."""
FILES = "chat-file"
"""The service of files: a session for each."""

_FILE_LIMIT = 1 << 30
"""Bytes of a file that is taken without a question."""
_FILES_AT_ONCE = 8
_STRANGERS = 50
"""That are shown; whoever else writes without having been added waits until one was blocked or
added."""
_PAUSE = 30.0
"""Seconds until somebody's presence is asked for again, where that was refused."""
_FOLLOWED = 200
"""Messages of one contact whose marks are followed."""
_FINAL = ("read", "expired", "cancelled", "refused", "sent")

log = logging.getLogger("chat")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a messenger keeps what it has."""

    folder: Path
    downloads: Path
    config: PeerConfig = field(default_factory=PeerConfig)
    """What the peer is to do otherwise than by default."""
    addresses: AddressSource | None = None
    """What tells of this host's addresses; None: the system."""


class Friend:
    """Somebody in the list: what is kept, and how it stands now."""

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self.presence = UNKNOWN
        """`online`, `suspect`, `offline` or "unknown"."""
        self.waiting: str | None = None
        """The first message that the user has not seen; more may wait behind it."""
        self.on_screen = asyncio.Event()
        """Set while the user looks at it."""
        self.trouble = ""
        """Why nothing can be written; empty where nothing is wrong."""
        self.progress: dict[int, float] = {}
        """How much of the files that are on their way has passed, from 0 to 1, by line."""
        self._chat: Conversation | None = None
        self._is_there = asyncio.Event()

    @property
    def guid(self) -> str:
        """Its GUID."""
        return self.contact.guid

    @property
    def name(self) -> str:
        """What to call it, safe to show."""
        return cleaned(self.contact.name, limit=64)

    def open(self, chat: Conversation) -> None:
        """It can be written to."""
        self._chat = chat
        self._is_there.set()

    def closed(self) -> None:
        """It cannot, until the next life of the peer."""
        self._chat = None
        self._is_there.clear()

    async def chat(self) -> Conversation:
        """Return the conversation, when it is open."""
        while self._chat is None:
            await self._is_there.wait()  # The screen says meanwhile why it is not.
        return self._chat


class Messenger:
    """One user of one relay. It is there inside its `async with`, as long as the program lasts."""

    def __init__(self, place: Place, relay: str | None = None, name: str | None = None) -> None:
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place = place
        self.identity = Identity.load_or_create(place.folder / "chat.key")
        self.book = Book(place.folder / "chat.db")
        self.book.break_off_files()
        for key, value in (("relay", relay), ("name", name)):
            if value:
                self.book.set(key, value)
        self.friends = {one.guid: Friend(one) for one in self.book.contacts()}
        """All that are kept, by GUID, those that are blocked too."""
        self.status: Status | None = None
        """How the peer stands with its relay; None where there is no relay."""
        self._peer: Peer | None = None
        self._group: asyncio.TaskGroup | None = None
        self._running: asyncio.Task[None] | None = None
        self._anew = asyncio.Event()
        self._news = asyncio.Event()

    # -- for the screen -------------------------------------------------------------------------

    @property
    def relay(self) -> str | None:
        """The relay of this user."""
        return self.book.setting("relay")

    @property
    def link(self) -> ContactLink:
        """What the user hands to others."""
        relays = (self.relay,) if self.relay else ()
        return ContactLink(self.identity.guid, relays, name=self.book.setting("name"))

    @property
    def listed(self) -> list[Friend]:
        """Those to show, in a steady order."""
        return [
            one for one in self.friends.values() if one.contact.standing is not Standing.BLOCKED
        ]

    async def changed(self) -> None:
        """Wait until something may have changed: several changes are one."""
        await self._news.wait()  # No timeout: there is nothing to show before.
        self._news.clear()

    def session(self, guid: str) -> Session | None:
        """Return what carries the messages with somebody now."""
        found = [
            session
            for session in (self._peer.sessions if self._peer and self._group else ())
            if session.remote == guid and session.service == CHAT
        ]
        return found[-1] if found else None

    def add(self, text: str) -> Friend:
        """Add whom a contact link names.

        Raises:
            ContactLinkError, ValueError: it is no link, or the user's own.
        """
        link = ContactLink.parse(text)
        if link.guid == self.identity.guid:
            raise ValueError("that is your own link: give it to others, and paste theirs here")
        known = self.friends.get(link.guid)
        name = link.name or (known.name if known is not None else link.guid[:8])
        mode = known.contact.mode if known is not None else Mode.AUTO
        was_blocked = known is not None and known.contact.standing is Standing.BLOCKED
        friend = self._keep(Contact(link.guid, name, mode, Standing.CONTACT))
        if self.relay is None and link.relays:
            self.book.set("relay", link.relays[0])
            self._anew.set()
        elif was_blocked:
            self._anew.set()
        elif known is None:
            self._begin(friend)
        return friend

    def relay_differs(self, text: str) -> str | None:
        """Return the relay that a link names, where it is not this user's."""
        relays = ContactLink.parse(text).relays
        return relays[0] if relays and self.relay not in (None, *relays) else None

    def set_mode(self, friend: Friend, mode: Mode) -> None:
        """Open sessions with somebody in another mode: the next ones, at once."""
        self._keep(replace(friend.contact, mode=mode))
        self._anew.set()

    def block(self, friend: Friend) -> None:
        """Have nothing to do with somebody, until its link is added again."""
        self._keep(replace(friend.contact, standing=Standing.BLOCKED))
        self._anew.set()

    async def write(self, friend: Friend, text: str) -> None:
        """Send a message; it is safe on the disk when this returns.

        Raises:
            RoamRelayError: it was not stored.
            ValueError: it is too long.
        """
        if friend.contact.standing is Standing.STRANGER:
            self._keep(replace(friend.contact, standing=Standing.CONTACT))
        chat = await friend.chat()
        payload, message = text.encode(errors="replace"), chat.new_message_id()
        also = self.book.departure(friend.guid, message, text)
        await chat.send(payload, message_id=message, also=also)
        self._tell()
        self._spawn(self._follow(friend, chat, message))

    def give(self, friend: Friend, path: Path) -> None:
        """Send a file in the background; its line says what becomes of it.

        Raises:
            OSError, ValueError: it cannot be read, or is no file.
        """
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        size = path.stat().st_size
        path.open("rb").close()
        number = self.book.add_file(friend.guid, f"file {path.name} ({size:,} bytes)", is_own=True)
        self._tell()
        if not self._spawn(self._give(friend, path, size, number)):
            self.book.mark_file(number, "not sent: there is no connection to a relay yet")

    async def _give(self, friend: Friend, path: Path, size: int, number: int) -> None:
        assert self._peer is not None
        try:
            offer = Offer(path.name, size)
            async with await self._peer.connect(
                friend.guid, FILES, metadata=offer.metadata
            ) as session:
                await transfer.send(session, path, size, self._meter(friend, number, size))
            self.book.mark_file(number, "delivered")
        except (RoamRelayError, TransferFailed, OSError, TimeoutError) as error:
            reason = cleaned(str(error) or type(error).__name__, limit=200)
            self.book.mark_file(number, f"not sent: {reason}. Send it again when they are online")
        finally:
            self._arrived(friend, number)

    # -- the life of the peer -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                self._anew.clear()
                if self.relay is None:
                    self._tell()
                    await self._anew.wait()  # No timeout: the user has to name a relay.
                    continue
                await self._live(self.relay)
        finally:
            self.book.close()

    async def _live(self, relay: str) -> None:
        config = self._config(relay)
        peer = self._peer = Peer(self.identity, config=config, addresses=self.place.addresses)
        life = asyncio.create_task(self._life(peer))
        try:
            await self._anew.wait()  # No timeout: until something is to be otherwise.
        finally:
            self._group = None
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            for friend in self.friends.values():
                friend.closed()
            await peer.close()
            self._peer = None
            self._tell()

    async def _life(self, peer: Peer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._guarded(self._watch_link(peer)))
            group.create_task(self._guarded(self._open(peer, group)))

    def _config(self, relay: str) -> PeerConfig:
        every = [one.contact for one in self.friends.values()]
        return structs.replace(
            self.place.config,
            relay=relay,
            wait_for_relay=True,
            mode=Mode.AUTO,
            guids={one.guid: one.mode for one in every},
            blocked=tuple(one.guid for one in every if one.standing is Standing.BLOCKED),
        )

    async def _open(self, peer: Peer, group: asyncio.TaskGroup) -> None:
        """Open the peer, which waits for the relay; messages are stored meanwhile."""
        starting = group.create_task(self._guarded(peer.start()))
        await asyncio.sleep(0)  # From here on it takes conversations.
        self._group = group
        for friend in self.listed:
            self._begin(friend)
        await starting
        await asyncio.gather(
            self._meet_strangers(peer),
            peer.serve(FILES, self._take, accept=self._accept, max_sessions=_FILES_AT_ONCE),
        )

    async def _watch_link(self, peer: Peer) -> None:
        async for self.status in peer.events():
            self._tell()

    def _begin(self, friend: Friend) -> None:
        self._spawn(self._talk(friend))
        self._spawn(self._watch(friend))

    async def _talk(self, friend: Friend) -> None:
        """Have the conversation with somebody."""
        assert self._peer is not None
        try:
            chat = await self._peer.conversation(friend.guid, CHAT, store=self.book.file).open()
        except UsageError:
            return  # It has begun one itself a moment ago: that one comes by `conversations`.
        await self._read(friend, chat)

    async def _read(self, friend: Friend, chat: Conversation) -> None:
        friend.open(chat)
        friend.trouble = ""
        follow = [
            line.id
            for line in self.book.lines(friend.guid)
            if line.is_own and line.id is not None and line.state not in _FINAL
        ]
        for name in follow[-_FOLLOWED:]:
            self._spawn(self._follow(friend, chat, name))
        try:
            async for message in chat:
                await self._show(friend, message)
        except RoamRelayError as error:
            friend.trouble = cleaned(str(error), limit=200)
            raise
        finally:
            friend.waiting = None

    async def _show(self, friend: Friend, message: Message) -> None:
        """Keep a message in the inbox until the user looks at it: then it is read."""
        text = message.payload.decode(errors="replace")
        friend.waiting = text
        self._tell()
        await friend.on_screen.wait()  # No timeout: when the user looks is the user's to decide.
        # A stranger is not told whether anybody is here.
        is_known = friend.contact.standing is Standing.CONTACT
        await message.done(read=is_known, also=self.book.arrival(message, text))
        friend.waiting = None
        self._tell()

    async def _follow(self, friend: Friend, chat: Conversation, message: str) -> None:
        async for now in chat.follow(message):
            state = now.state.value
            self.book.mark(friend.guid, message, state)
            self._tell()

    async def _watch(self, friend: Friend) -> None:
        """Tell whether somebody is there."""
        assert self._peer is not None
        while True:
            try:
                async for presence in self._peer.watch(friend.guid):
                    friend.presence = presence.state
                    self._tell()
            except RoamRelayError as error:
                log.debug("presence: %s", error)
            friend.presence = UNKNOWN
            self._tell()
            await asyncio.sleep(_PAUSE)

    async def _meet_strangers(self, peer: Peer) -> None:
        """Take the conversations that others begin."""
        async for chat in peer.conversations(CHAT, store=self.book.file):
            friend = self.friends.get(chat.remote)
            if friend is None:
                strangers = [
                    one for one in self.listed if one.contact.standing is Standing.STRANGER
                ]
                if len(strangers) >= _STRANGERS:
                    await chat.close()
                    continue
                guid = chat.remote
                friend = self._keep(Contact(guid, guid[:8], Mode.AUTO, Standing.STRANGER))
                self._spawn(self._watch(friend))
            self._spawn(self._read(friend, chat))

    # -- files of others ------------------------------------------------------------------------

    def _accept(self, request: SessionRequest) -> bool | str:
        friend = self.friends.get(request.remote)
        if friend is None or friend.contact.standing is not Standing.CONTACT:
            return "files are taken from contacts alone: write first, to be added"
        offer = Offer.read(request.metadata)
        if offer is None:
            return "that is no file"
        return True if offer.size <= _FILE_LIMIT else f"above {_FILE_LIMIT:,} bytes"

    async def _take(self, session: Session) -> None:
        friend, offer = self.friends.get(session.remote), Offer.read(session.metadata)
        if friend is None or offer is None:
            return
        number = self.book.add_file(
            friend.guid, f"file {offer.name} ({offer.size:,} bytes)", is_own=False
        )
        meter = self._meter(friend, number, offer.size)
        try:
            path = await transfer.receive(session, offer, self.place.downloads, meter)
            self.book.mark_file(number, f"saved as {path}")
        except (RoamRelayError, TransferFailed, OSError) as error:
            reason = cleaned(str(error), limit=200)
            self.book.mark_file(number, f"not received: {reason}")
            session.abort("the file was not kept")
        else:
            await _ended(session)
        finally:
            self._arrived(friend, number)

    def _meter(self, friend: Friend, number: int, size: int) -> Callable[[int], None]:
        def told(done: int) -> None:
            friend.progress[number] = done / size if size else 1.0
            self._tell()

        return told

    def _arrived(self, friend: Friend, number: int) -> None:
        friend.progress.pop(number, None)
        self._tell()

    # -- inside ---------------------------------------------------------------------------------

    def _keep(self, contact: Contact) -> Friend:
        self.book.put(contact)
        friend = self.friends.get(contact.guid)
        if friend is None:
            friend = self.friends[contact.guid] = Friend(contact)
        friend.contact = contact
        self._tell()
        return friend

    def _tell(self) -> None:
        self._news.set()

    def _spawn(self, work: Coroutine[Any, Any, object]) -> bool:
        """Do something as long as this life of the peer lasts; return whether there is one."""
        if self._group is None:
            work.close()
            return False
        self._group.create_task(self._guarded(work))
        return True

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        """What goes wrong for one contact is no end of the others."""
        try:
            await work
        except RoamRelayError as error:
            log.info("ended: %s", error)
            self._tell()
        except Exception:
            log.exception("not expected")
            self._tell()


async def _ended(session: Session) -> None:
    """Wait until the other side has read the answer and closed."""
    with contextlib.suppress(RoamRelayError):
        async for _ in session:
            pass
