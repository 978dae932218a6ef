"""`peer send` and `peer receive`: what one transfer does is its own affair."""

import asyncio
import errno
import hashlib
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peers import Peer, Session, SessionClosed, SessionLost
from peers.cli import files
from peers.cli.file_transfer import Stored, TransferFailed, receive_file, send_file
from peers.cli.parts import Parts
from relay.server import RelayServer
from tests.peers.cli.commands import PIPE, Running, peer, run_peer
from tests.support.readers import read_some

STREAMS = (PIPE, PIPE, PIPE)


@pytest.fixture
def here(relay: RelayServer, tmp_path: Path) -> tuple[str, ...]:
    return ("--relay", relay.url, "--key", str(tmp_path / "receiver.key"))


@pytest.fixture
def there(relay: RelayServer, tmp_path: Path) -> tuple[str, ...]:
    return ("--relay", relay.url, "--key", str(tmp_path / "sender.key"))


async def receiving(running: Running) -> str:
    """Wait until `peer receive --json` does; return its GUID."""
    return str((await running.fact())["guid"])


def nothing(done: int, size: int) -> None:
    """A transfer that nobody looks at."""


async def begun(session: Session, name: str, size: int) -> None:
    """Begin a transfer, and leave it so."""
    await session.send(msgspec.json.encode({"name": name, "size": size}))


async def finish(session: Session, data: bytes) -> bytes:
    """Send what was begun; return the receiver's answer."""
    await session.send(data)
    await session.send(msgspec.json.encode({"sha256": hashlib.sha256(data).hexdigest()}))
    return await session.receive()


async def test_a_transfer_that_fails_leaves_the_others(
    bob: Peer, here: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    async with peer(*here, "receive", str(folder), "--json") as running:
        guid = await receiving(running)
        async with await bob.connect(guid, "file") as good:
            await begun(good, "good", 4)
            aborted = await bob.connect(guid, "file")
            await begun(aborted, "aborted", 4)
            aborted.abort("no such file [/etc/motd]")
            assert "no such file [/etc/motd]" in (await running.fact())["reason"]
            wrong = await bob.connect(guid, "file")
            await wrong.send(b"this is no header")
            assert (await running.fact())["reason"] == "this is no file transfer"
            with pytest.raises(SessionLost, match="this is no file transfer"):
                await wrong.receive()
            assert await finish(good, b"good") == b"ok"
            fact = await running.fact()
            assert (fact["event"], fact["bytes"]) == ("received", 4)
        assert os.listdir(folder) == ["good"]


async def test_a_full_disk_ends_one_transfer(
    bob: Peer, here: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with peer(*here, "receive", str(folder), "--json") as running:
        guid = await receiving(running)
        async with await bob.connect(guid, "file") as good:
            await begun(good, "good", 4)
            (tmp_path / "big").write_bytes(b"x" * (4 << 20))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
            try:
                bad = await bob.connect(guid, "file")
                with pytest.raises(Exception, match="cannot store big: File too large"):
                    await send_file(bad, tmp_path / "big", nothing)
                bad.abort()
                assert await running.fact() == {
                    "event": "failed",
                    "reason": "cannot store big: File too large",
                }
                assert await finish(good, b"good") == b"ok"
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert (await running.fact())["event"] == "received"
        assert os.listdir(folder) == ["good"]


@pytest.mark.expected_errors("nobody expected it")
async def test_what_nobody_expected_ends_one_transfer(
    bob: Peer, here: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    original = files.receive_file
    calls = 0

    async def failing(
        session: Session, parts: Parts, progress: Callable[[int, int], None]
    ) -> Stored:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyError("nobody expected it")
        return await original(session, parts, progress)

    monkeypatch.setattr(files, "receive_file", failing)
    async with peer(*here, "receive", str(folder), "--json") as running:
        guid = await receiving(running)
        async with await bob.connect(guid, "file") as good:
            await begun(good, "good", 4)
            bad = await bob.connect(guid, "file")
            assert "unexpected KeyError" in (await running.fact())["reason"]
            bad.abort()
            assert await finish(good, b"good") == b"ok"
            assert (await running.fact())["event"] == "received"
        assert not running.task.done()


async def test_a_receiver_that_is_ended_keeps_no_half_file_and_closes_its_sessions(
    bob: Peer, here: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    async with peer(*here, "receive", str(folder), "--json") as running:
        guid = await receiving(running)
        session = await bob.connect(guid, "file")
        await begun(session, "big", 10)
        await session.send(b"12345")
        while not folder.exists() or not os.listdir(folder):
            await asyncio.sleep(0.01)
        await running.stop()
        assert os.listdir(folder) == []
        assert await session.receive() == b"cancelled by the receiver"
        with pytest.raises(SessionClosed):
            await session.receive()


async def test_a_folder_that_cannot_be_is_told_at_once(here: tuple[str, ...]) -> None:
    code, _, err = await run_peer(*here, "receive", "/proc/in")
    assert (code, err) == (1, "peer: cannot make /proc/in: No such file or directory\n")


async def test_once_waits_for_no_caller_that_sends_nothing(
    bob: Peer, here: tuple[str, ...], there: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    async with peer(*here, "receive", str(tmp_path / "in"), "--once", "--json") as running:
        guid = await receiving(running)
        silent = await bob.connect(guid, "file")
        async with peer(*there, "send", guid, str(tmp_path / "empty"), "--json") as sending:
            sent, received = await sending.fact(), await running.fact()
            assert sent["sha256"] == received["sha256"] == hashlib.sha256(b"").hexdigest()
            assert sent["bytes"] == received["bytes"] == 0
            assert await sending.ended() == 0
        assert await running.ended() == 0
        silent.abort()
    assert os.listdir(tmp_path / "in") == ["empty"]


async def test_a_file_that_cannot_be_read_ends_its_own_transfer_alone(
    alice: Peer, bob: Peer, here: tuple[str, ...], tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * (1 << 20))

    def shorten(done: int, size: int) -> None:
        os.truncate(big, done)

    async with peer(*here, "receive", str(tmp_path / "in"), "--json") as running:
        guid = await receiving(running)
        async with await bob.connect(guid, "file") as good:
            await begun(good, "good", 4)
            for path, progress, says in (
                (Path("/proc/self/mem"), nothing, "cannot read /proc/self/mem: Input/output error"),
                (big, shorten, "big became shorter while it was sent"),
            ):
                with pytest.raises(TransferFailed, match=says):
                    async with await alice.connect(guid, "file") as bad:
                        await send_file(bad, path, progress)
                assert (await running.fact())["event"] == "failed"
            assert await finish(good, b"good") == b"ok"
        assert (await running.fact())["event"] == "received"
    assert os.listdir(tmp_path / "in") == ["good"]


async def test_every_name_arrives_and_so_does_what_comes_out_of_a_pipe(
    alice: Peer, bob: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sent(path: Path) -> Path:
        session = await bob.connect(alice.guid, "file")
        receiving = asyncio.ensure_future(
            receive_file(await anext(listener), Parts(tmp_path / "in"), nothing)
        )
        async with session:
            await send_file(session, path, nothing)
        return (await receiving).path

    listener = alice.listen("file")
    await alice.published()
    for name, stored in (
        ("ω" * 125 + ".txt", "ω" * 118 + ".txt"),
        (os.fsdecode(b"caf\xe9.txt"), "caf\ufffd.txt"),
        (" .bashrc", "bashrc"),
        (" .bashrc", "1-bashrc"),
    ):
        (tmp_path / name).write_bytes(b"x")
        assert (await sent(tmp_path / name)).name == stored
    there, here = os.pipe()
    os.write(here, b"out of a pipe")
    os.close(here)
    path = await sent(Path(f"/dev/fd/{there}"))
    os.close(there)
    assert (path.name, path.read_bytes()) == (str(there), b"out of a pipe")

    # A file system without hard links, on which some names cannot be.
    rename = os.rename

    def rename_as_fat(source: Any, target: Any) -> None:
        if set(Path(target).name) & set('<>"|?*'):
            raise OSError(errno.EINVAL, "Invalid argument")
        rename(source, target)

    def no_links(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "rename", rename_as_fat)
    (tmp_path / "what?.txt").write_bytes(b"x")
    assert (await sent(tmp_path / "what?.txt")).name == "what_.txt"
    assert (await sent(tmp_path / "what?.txt")).name == "1-what_.txt"
    assert not [one for one in os.listdir(tmp_path / "in") if one.startswith(".")]


async def test_a_file_that_is_taken_away_at_once_was_received_all_the_same(
    bob: Peer, here: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = files.receive_file

    async def taken_away(
        session: Session, parts: Parts, progress: Callable[[int, int], None]
    ) -> Stored:
        stored = await original(session, parts, progress)
        stored.path.unlink()
        return stored

    monkeypatch.setattr(files, "receive_file", taken_away)
    (tmp_path / "a").write_bytes(b"x" * 10)
    async with peer(*here, "receive", str(tmp_path / "in"), "--once", "--json") as running:
        guid = await receiving(running)
        async with await bob.connect(guid, "file") as session:
            await send_file(session, tmp_path / "a", nothing)
        assert (await running.fact())["bytes"] == 10
        assert await running.ended() == 0


async def test_sending_to_a_receiver_that_goes_is_one_line_and_a_code(
    alice: Peer, there: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(b"x" * (20 << 20))
    listener = alice.listen("file")
    await alice.published()
    async with peer(*there, "send", alice.guid, str(tmp_path / "big")) as sending:
        session = await anext(listener)
        await session.receive()
        session.abort("disk full [/dev/sda1]")
        assert await sending.ended() == 11
        out, err = await sending.rest()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert "disk full [/dev/sda1]" in err


async def test_a_bar_shows_the_name_as_it_is(
    alice: Peer, there: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "song[red].mp3"
    path.write_bytes(b"x" * 1000)
    listener = alice.listen("file")
    await alice.published()
    master, stderr = os.openpty()
    try:
        async with peer(*there, "send", alice.guid, str(path), stderr=stderr) as sending:
            session = await anext(listener)
            stored = await receive_file(session, Parts(tmp_path / "in"), nothing)
            await session.close()
            assert await sending.ended() == 0
            seen = b""
            while b"sent song[red].mp3: 1000 bytes" not in seen:
                seen += await read_some(master)
            assert seen.count(b"song[red].mp3") > 1
        assert stored.path.name == "song[red].mp3"
    finally:
        os.close(master)
        os.close(stderr)


async def test_a_sender_that_is_cancelled_says_so_at_both_ends(
    here: tuple[str, ...], there: tuple[str, ...], tmp_path: Path
) -> None:
    with (tmp_path / "big").open("wb") as big:
        big.truncate(256 << 20)
    folder = tmp_path / "in"
    async with peer(*here, "receive", str(folder), "--json", "--progress", "0.05") as receiver:
        guid = await receiving(receiver)
        sender = await Running(
            (*there, "send", guid, str(tmp_path / "big"), "--json"), STREAMS
        ).start()
        try:
            progress = await receiver.fact()
            assert (progress["event"], progress["size"]) == ("progress", 256 << 20)
            assert 0 < progress["bytes"] < progress["size"]
            sender.task.cancel()
            told = await sender.fact()
            assert (told["event"], told["file"]) == ("cancelled", "big")
            while progress["event"] == "progress":
                progress = await receiver.fact()
            assert progress["event"] == "failed"
            assert "cancelled by the sender" in progress["reason"]
        finally:
            await sender.stop()
        assert os.listdir(folder) == []
        assert not receiver.task.done()


async def test_a_receiver_that_is_cancelled_says_so_at_both_ends(
    here: tuple[str, ...], there: tuple[str, ...], tmp_path: Path
) -> None:
    with (tmp_path / "big").open("wb") as big:
        big.truncate(256 << 20)
    folder = tmp_path / "in"
    async with peer(*here, "receive", str(folder), "--json") as receiver:
        guid = await receiving(receiver)
        words = (*there, "send", guid, str(tmp_path / "big"), "--json", "--progress", "0.05")
        async with peer(*words) as sender:
            progress = await sender.fact()
            assert (progress["event"], progress["file"]) == ("progress", "big")
            # Until it has begun there is nothing to cancel.
            async with asyncio.timeout(60):
                while not sum(one.stat().st_size for one in folder.glob("**/*") if one.is_file()):
                    await asyncio.sleep(0.01)
            receiver.task.cancel()
            told = await receiver.fact()
            assert told["event"] == "cancelled"
            assert 0 < told["bytes"] < 256 << 20
            assert await sender.ended() == 12
            _, err = await sender.rest()
            assert "the transfer of big was cancelled by the receiver" in err
        assert os.listdir(folder) == []


async def test_an_answer_that_comes_early_ends_the_sending(
    alice: Peer, bob: Peer, tmp_path: Path
) -> None:
    """Also while the sender waits for room, and the receiver takes nothing more."""
    with (tmp_path / "big").open("wb") as big:
        big.truncate(64 << 20)
    listener = alice.listen("file")
    await alice.published()
    session = await bob.connect(alice.guid, "file")
    sending = asyncio.ensure_future(send_file(session, tmp_path / "big", nothing))
    async with asyncio.timeout(60):
        there = await anext(listener)
        await there.receive()
        await there.send(b"cannot store big: No space left on device")
        with pytest.raises(TransferFailed, match="No space left on device"):
            await sending
        assert not session.is_over
        session.abort()
