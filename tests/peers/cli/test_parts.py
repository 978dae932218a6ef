"""A file that was interrupted goes on where it stopped: what is kept, for whom, how much of it."""

import asyncio
import hashlib
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from peers import Identity, Peer, Session, SessionLost
from peers.cli import parts as parts_module
from peers.cli.file_transfer import Stored, TransferFailed, receive_file, send_file
from peers.cli.parts import Parts
from peers.services import Listener
from relay.server import RelayServer

MIB = 1 << 20
TOKEN = "0" * 32


def nothing(done: int, size: int) -> None:
    """A transfer that nobody looks at."""


def content(size: int) -> bytes:
    """Return bytes of which no two parts are the same."""
    return b"".join(hashlib.sha256(n.to_bytes(4)).digest() for n in range(size // 32))


class Receiver:
    """What receives files, one after the other."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.peer = peer
        self.parts = Parts(folder)
        self.listener: Listener = peer.listen("file")

    async def takes(self) -> "tuple[Session, asyncio.Task[Stored]]":
        """Take the next session, and receive what it brings."""
        session = await anext(self.listener)
        return session, asyncio.ensure_future(receive_file(session, self.parts, nothing))

    @property
    def there(self) -> list[str]:
        """What is in the folder."""
        return sorted(os.listdir(self.parts.folder))


@pytest.fixture
async def receiver(alice: Peer, tmp_path: Path) -> Receiver:
    receiver = Receiver(alice, tmp_path / "in")
    await alice.published()
    return receiver


async def began(bob: Peer, receiver: Receiver, size: int, token: str = TOKEN) -> Session:
    """Begin a transfer by hand."""
    session = await bob.connect(receiver.peer.guid, "file")
    header = {"name": "film", "size": size, "resume": token}
    await session.send(msgspec.json.encode(header))
    return session


async def broken_off(bob: Peer, receiver: Receiver, data: bytes, size: int, **how: str) -> None:
    """Have a transfer end without a word, behind its first bytes."""
    sending = await began(bob, receiver, size, **how)
    _, receiving = await receiver.takes()
    for at in range(0, len(data), MIB):
        await sending.send(data[at : at + MIB])
    await sending.acknowledged()
    await asyncio.wait({receiving}, timeout=0)
    sending.abort("the program was killed")
    with pytest.raises(SessionLost):
        await receiving


async def test_what_was_interrupted_goes_on_and_is_checked_as_a_whole(
    bob: Peer, receiver: Receiver, tmp_path: Path
) -> None:
    data = content(6 * MIB)
    file = tmp_path / "film"
    file.write_bytes(data)
    sent = 0

    class Interrupted(Exception):
        pass

    def interrupt(done: int, size: int) -> None:
        nonlocal sent
        sent = done
        if done >= 4 * MIB:
            raise Interrupted

    session = await bob.connect(receiver.peer.guid, "file")
    sending = asyncio.ensure_future(send_file(session, file, interrupt))
    _, receiving = await receiver.takes()
    with pytest.raises(Interrupted):
        await sending
    await session.acknowledged()
    session.abort("the program was killed")
    with pytest.raises(SessionLost):
        await receiving
    (kept,) = receiver.there
    assert kept.endswith(".kept.part")
    had = (tmp_path / "in" / kept).stat().st_size
    assert MIB < had <= sent

    async with await bob.connect(receiver.peer.guid, "file") as session:
        sending = asyncio.ensure_future(send_file(session, file, nothing))
        _, receiving = await receiver.takes()
        assert (await sending).sha256 == hashlib.sha256(data).hexdigest()
        stored = await receiving
    assert receiver.there == ["film"]
    assert stored.path.read_bytes() == data


async def test_a_sender_leaves_out_what_is_there(
    alice: Peer, bob: Peer, receiver: Receiver, tmp_path: Path
) -> None:
    size, had = 64 * MIB, 63 * MIB
    with (tmp_path / "film").open("wb") as film:
        film.truncate(size)
    session = await bob.connect(alice.guid, "file")
    sending = asyncio.ensure_future(send_file(session, tmp_path / "film", nothing))
    there = await anext(receiver.listener)
    assert "resume" in msgspec.json.decode(await there.receive())
    digest = hashlib.sha256(bytes(had)).hexdigest()
    await there.send(msgspec.json.encode({"have": had, "sha256": digest}))
    await there.acknowledged()  # It sends no more than the window meanwhile, which nobody empties.
    came = []
    while not came or b"sha256" not in came[-1]:
        came.append(await there.receive())
    gap = came.index(b"")
    assert msgspec.json.decode(came[gap + 1]) == {"from": had}
    assert sum(map(len, came[gap + 2 : -1])) == size - had
    assert sum(map(len, came[:gap])) < 32 * MIB
    await there.send(b"ok")
    assert await sending == (hashlib.sha256(bytes(size)).hexdigest(), had)
    session.abort()


async def test_a_receiver_takes_the_rest_alone(bob: Peer, receiver: Receiver) -> None:
    data = content(4 * MIB)
    await broken_off(bob, receiver, data[: 3 * MIB], len(data))
    session = await began(bob, receiver, len(data))
    there, receiving = await receiver.takes()
    await session.receive()
    await session.send(b"")
    await session.send(msgspec.json.encode({"from": 3 * MIB}))
    await session.send(data[3 * MIB :])
    await session.send(msgspec.json.encode({"sha256": hashlib.sha256(data).hexdigest()}))
    assert await session.receive() == b"ok"
    stored = await receiving
    assert (stored.path.read_bytes(), stored.resumed) == (data, 3 * MIB)
    assert there.figures().taken_bytes < 2 * MIB
    session.abort()


async def test_of_a_file_that_has_changed_nothing_of_before_is_left(
    bob: Peer, receiver: Receiver
) -> None:
    """Also where the sender takes it for the same one: its beginning is compared."""
    old, new = content(3 * MIB), bytes(4 * MIB)
    await broken_off(bob, receiver, old, len(new))
    session = await began(bob, receiver, len(new))
    _, receiving = await receiver.takes()
    told = msgspec.json.decode(await session.receive())
    assert told == {"have": len(old), "sha256": hashlib.sha256(old).hexdigest()}
    for at in range(0, len(new), MIB):
        await session.send(new[at : at + MIB])
    await session.send(msgspec.json.encode({"sha256": hashlib.sha256(new).hexdigest()}))
    assert await session.receive() == b"ok"
    assert (await receiving).path.read_bytes() == new
    assert receiver.there == ["film"]
    session.abort()


async def test_who_goes_on_from_elsewhere_is_refused(bob: Peer, receiver: Receiver) -> None:
    await broken_off(bob, receiver, content(3 * MIB), 4 * MIB)
    session = await began(bob, receiver, 4 * MIB)
    _, receiving = await receiver.takes()
    await session.receive()
    await session.send(b"")
    await session.send(msgspec.json.encode({"from": 3 * MIB + 1}))
    with pytest.raises(TransferFailed, match="goes on from where nothing is"):
        await receiving
    assert receiver.there == []
    session.abort()


async def test_nobody_goes_on_with_the_file_of_somebody_else(
    relay: RelayServer, bob: Peer, receiver: Receiver
) -> None:
    await broken_off(bob, receiver, content(2 * MIB), 4 * MIB)
    async with Peer(Identity.generate(), relay.url) as carol:
        for who, token in ((carol, TOKEN), (bob, "1" * 32)):
            session = await began(who, receiver, 4 * MIB, token)
            there, receiving = await receiver.takes()
            await session.send(b"x" * 4 * 1024)
            await session.acknowledged()
            session.abort("over")
            with pytest.raises(SessionLost):
                await receiving
            assert there.figures().sent == 0
    assert len(receiver.there) == 1


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
async def test_what_others_have_put_there_is_not_written_into(
    bob: Peer, receiver: Receiver, tmp_path: Path, kind: str
) -> None:
    await broken_off(bob, receiver, content(2 * MIB), 3 * MIB)
    (kept,) = receiver.there
    path, other = tmp_path / "in" / kept, tmp_path / "other"
    path.unlink()
    other.write_bytes(b"of somebody else")
    match kind:
        case "link":
            path.symlink_to(other)
        case "hard link":
            path.hardlink_to(other)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    data = content(3 * MIB)
    session = await began(bob, receiver, len(data))
    _, receiving = await receiver.takes()
    for at in range(0, len(data), MIB):
        await session.send(data[at : at + MIB])
    await session.send(msgspec.json.encode({"sha256": hashlib.sha256(data).hexdigest()}))
    assert await session.receive() == b"ok"
    assert (await receiving).path.read_bytes() == data
    assert other.read_bytes() == b"of somebody else"
    session.abort()


async def test_a_sender_that_is_cancelled_leaves_nothing(bob: Peer, receiver: Receiver) -> None:
    sending = await began(bob, receiver, 4 * MIB)
    _, receiving = await receiver.takes()
    for _ in range(2):
        await sending.send(bytes(MIB))
    await sending.acknowledged()
    sending.abort("cancelled by the sender")
    with pytest.raises(SessionLost):
        await receiving
    assert receiver.there == []


async def test_two_attempts_at_once_are_two_files_where_both_go_on(
    bob: Peer, receiver: Receiver
) -> None:
    data = content(2 * MIB)
    first = await began(bob, receiver, len(data))
    _, one = await receiver.takes()
    second = await began(bob, receiver, len(data))
    _, other = await receiver.takes()
    for session in (first, second):
        for at in range(0, len(data), MIB):
            await session.send(data[at : at + MIB])
        await session.send(msgspec.json.encode({"sha256": hashlib.sha256(data).hexdigest()}))
    assert {(await one).path.name, (await other).path.name} == {"film", "1-film"}
    first.abort()
    second.abort()


async def test_an_attempt_of_which_nothing_comes_makes_room_for_the_next_one(
    bob: Peer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "_PATIENCE", 0.2)
    data = content(4 * MIB)
    silent = await began(bob, receiver, len(data))
    _, first = await receiver.takes()
    for at in (0, MIB):
        await silent.send(data[at : at + MIB])
    await silent.acknowledged()
    while not receiver.there or (receiver.parts.folder / receiver.there[0]).stat().st_size < MIB:
        await asyncio.sleep(0.01)
    second = await began(bob, receiver, len(data))
    _, receiving = await receiver.takes()
    with pytest.raises(SessionLost, match="begun anew"):
        await first
    told = cast(dict[str, Any], msgspec.json.decode(await second.receive()))
    assert told["have"] >= MIB
    second.abort("over")
    with pytest.raises(SessionLost):
        await receiving


def made(folder: Path, sender: str, number: int, age: float = 0.0) -> str:
    """Make a file that was kept so many seconds ago."""
    path = folder / f".{number:020x}-{sender * 12}.kept.part"
    path.write_bytes(b"x")
    at = time.time() - age
    os.utime(path, (at, at))
    return path.name


def test_what_is_kept_is_bounded_for_each_and_in_all_and_does_not_last(tmp_path: Path) -> None:
    def left() -> set[str]:
        parts.tidy()
        return set(os.listdir(tmp_path))

    parts = Parts(tmp_path)
    made(tmp_path, "a", 0, age=8 * 86_400)
    of_a = [made(tmp_path, "a", n, age=100 - n) for n in range(1, 11)]
    (tmp_path / "film").touch()
    assert left() == {"film", *of_a[2:]}
    others = [made(tmp_path, chr(98 + n // 7), n, age=50 - n / 2) for n in range(57)]
    # Of who has most the oldest goes, and nobody else's.
    assert left() == {"film", *of_a[3:], *others}


def test_what_cannot_be_looked_at_keeps_nothing_from_being_tidied(tmp_path: Path) -> None:
    old = made(tmp_path, "a", 0, age=8 * 86_400)
    killed = tmp_path / ".0123.part"
    killed.touch()
    os.utime(killed, (0, 0))
    # Killed between its own name and the removal of this one.
    whole = made(tmp_path, "b", 1, age=8 * 86_400)
    os.link(tmp_path / whole, tmp_path / "film")
    (tmp_path / ".a-b.kept.part").symlink_to("/nowhere")
    Parts(tmp_path).tidy()
    assert old not in os.listdir(tmp_path)
    assert set(os.listdir(tmp_path)) == {"film", ".a-b.kept.part"}


def test_what_is_kept_leaves_as_much_room_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = made(tmp_path, "a", 0, age=50)
    large = [made(tmp_path, "b", number, age=40 - number) for number in range(3)]
    for name in large:
        os.truncate(tmp_path / name, 1000)
        os.utime(tmp_path / name, (time.time() - 30, time.time() - 30 + large.index(name)))
    monkeypatch.setattr(
        parts_module.shutil, "disk_usage", lambda folder: cast(Any, SimpleNamespace(free=1500))
    )
    Parts(tmp_path).tidy()
    assert set(os.listdir(tmp_path)) == {small, *large[1:]}


async def test_what_there_is_no_room_for_is_refused_before_it_comes(
    bob: Peer, receiver: Receiver
) -> None:
    sending = await began(bob, receiver, 1 << 62)
    _, receiving = await receiver.takes()
    with pytest.raises(TransferFailed, match="No space left"):
        await receiving
    assert b"No space left" in await sending.receive()
    assert receiver.there == []
    await sending.close()


async def test_a_full_disk_does_not_take_what_was_there(
    bob: Peer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broken_off(bob, receiver, content(2 * MIB), 4 * MIB)
    before = receiver.there
    assert len(before) == 1
    sending = await began(bob, receiver, 4 * MIB)
    monkeypatch.setattr(
        parts_module.shutil, "disk_usage", lambda folder: cast(Any, SimpleNamespace(free=MIB))
    )
    _, receiving = await receiver.takes()
    with pytest.raises(TransferFailed, match="No space left"):
        await receiving
    assert receiver.there == before
    sending.abort("over")


@pytest.mark.parametrize(
    "header",
    [
        b'{"name":"\xff","size":1}',
        b'{"name":"a","size":' + b"9" * 400 + b"}",
        b'{"name":"a","size":-1}',
        b"\xff",
    ],
)
async def test_what_is_no_header_is_answered(bob: Peer, receiver: Receiver, header: bytes) -> None:
    sending = await bob.connect(receiver.peer.guid, "file")
    await sending.send(header)
    _, receiving = await receiver.takes()
    with pytest.raises(TransferFailed, match="no file transfer"):
        await receiving
    assert await sending.receive() == b"this is no file transfer"
    await sending.close()


async def test_a_file_that_changes_while_it_is_sent_is_not_said_to_be_whole(
    bob: Peer, receiver: Receiver, tmp_path: Path
) -> None:
    film = tmp_path / "film"
    film.write_bytes(content(2 * MIB))
    changed = False

    def change(done: int, size: int) -> None:
        nonlocal changed
        if not changed:
            changed = True
            film.write_bytes(content(2 * MIB)[::-1])
            os.utime(film, (1, 1))

    sending = await bob.connect(receiver.peer.guid, "file")
    _, receiving = await receiver.takes()
    with pytest.raises(TransferFailed, match="changed while it was sent"):
        await send_file(sending, film, change)
    sending.abort("it was changed")
    with pytest.raises((TransferFailed, SessionLost)):
        await receiving
