"""Sending a file over a session, and receiving it: a header, the pieces, a checksum.

The header is one JSON message (name and size), pieces are raw messages, and the
last message is JSON again with the checksum of all pieces. The receiver answers with one message,
also while pieces come: `ok`, or why not. Whoever is cancelled says so: the receiver by its answer,
the sender by the reason with which it aborts the session. A file appears under its own name only
when it is whole.
"""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from peers import Session
from peers.cli.names import names_for
from peers.cli.source import PIECE, opened
from peers.disk import place
from protocol.errors import RoamRelayError, SessionClosed, SessionLost

__all__ = ["TransferCancelled", "TransferFailed", "receive_file", "send_file"]

_NO_NAME = (errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ)
"""What file systems say of a name that they cannot have."""
_NUMBERS = 1_000
"""Numbers that are tried in front of a name that is taken; then it is the session's."""

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


class TransferFailed(RoamRelayError):
    """A file could not be sent or stored whole. Says why."""


class TransferCancelled(TransferFailed):
    """The other side has cancelled the transfer."""


_CANCELLED = "cancelled by the receiver"
"""The receiver's answer."""


class _Header(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    size: Annotated[int, msgspec.Meta(ge=0)]


class _Trailer(msgspec.Struct, frozen=True):
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


async def send_file(session: Session, path: Path, progress: Progress) -> str:
    """Send one file, or what a pipe gives until its end, and wait until the receiver has stored
    it; return its SHA-256 (hex).

    Raises:
        TransferFailed: the file cannot be read, or the receiver could not store it.
        TransferCancelled: the receiver has cancelled it.
        SessionLost, SessionClosed: the session ended first.
    """
    loop = asyncio.get_running_loop()
    answering = loop.create_task(session.receive())
    sending = loop.create_task(_send(session, path, progress))
    try:
        # No timeout: how long the receiver takes is its own affair, and the session has its own.
        await asyncio.wait({answering, sending}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and not isinstance(sending.exception(), SessionClosed | SessionLost):
            sending.result()  # What has gone wrong here.
        # Where the session has ended, what came before says more than the end.
        answer = (await answering).decode(errors="replace")
    except SessionClosed:
        if not _succeeded(sending):
            raise
        raise TransferFailed(
            "the receiver did not store it: it closed the session without a word"
        ) from None
    except asyncio.CancelledError:
        session.abort("cancelled by the sender")
        raise
    finally:
        answering.cancel()
        sending.cancel()
        await asyncio.gather(answering, sending, return_exceptions=True)
    if answer == _CANCELLED:
        raise TransferCancelled(f"the transfer of {path.name} was {answer}")
    if answer != "ok" or not _succeeded(sending):
        raise TransferFailed(f"the receiver did not store it: {answer[:200]}")
    return sending.result()


def _succeeded(task: "asyncio.Task[str]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _send(session: Session, path: Path, progress: Progress) -> str:
    """Send all of a file; return the checksum of what was sent."""
    digest = hashlib.sha256()
    # A name need not be UTF-8; the header is.
    name = os.fsencode(path.name).decode(errors="replace")
    try:
        async with opened(path) as (file, size):
            await session.send(msgspec.json.encode(_Header(name, size)))
            done = 0
            while done < size:
                piece = await asyncio.to_thread(file.read, min(PIECE, size - done))
                if not piece:
                    raise TransferFailed(f"{path} became shorter while it was sent")
                digest.update(piece)
                await session.send(piece)
                done += len(piece)
                progress(done, size)
    except OSError as error:
        raise TransferFailed(f"cannot read {path}: {error.strerror}") from None
    await session.send(msgspec.json.encode(_Trailer(digest.hexdigest())))
    return digest.hexdigest()


async def receive_file(session: Session, folder: Path, progress: Progress) -> tuple[Path, str]:
    """Receive one file into a folder; return where it is, and its SHA-256 (hex).

    A name that exists already gets a number. What was stored is removed when the rest fails.

    Raises:
        TransferFailed: it cannot be stored, or did not arrive as it was sent.
        SessionLost, SessionClosed: the session ended first.
    """
    try:
        path, digest = await _store(session, folder, progress)
    except TransferFailed as failure:
        await _answer(session, failure.reason.encode()[:1000])
        raise
    except asyncio.CancelledError:
        await _answer(session, _CANCELLED.encode())
        raise
    await _answer(session, b"ok")
    return path, digest


async def _answer(session: Session, answer: bytes) -> None:
    # What became of the file does not depend on whether the sender still hears it.
    with contextlib.suppress(SessionClosed, SessionLost):
        await session.send(answer)


async def _store(session: Session, folder: Path, progress: Progress) -> tuple[Path, str]:
    try:
        header = msgspec.json.decode(await session.receive(), type=_Header)
    except msgspec.DecodeError:
        raise TransferFailed("this is no file transfer") from None
    # Whatever the file's name is: this one can be had.
    part = folder / f".{session.id.hex()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            digest = await _pieces(session, file, header.size, progress)
            await asyncio.to_thread(_sync, file)
        return await asyncio.to_thread(_placed, part, header.name), digest
    except OSError as error:
        raise TransferFailed(f"cannot store {header.name}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _placed(part: Path, name: str) -> Path:
    """Give a file its own name, or one as near to it as can be had here."""
    refused = OSError()
    for one in names_for(name):
        try:
            return _numbered(part, one)
        except OSError as error:
            if error.errno not in _NO_NAME:
                raise
            refused = error
    raise refused


def _numbered(part: Path, name: str) -> Path:
    for number in itertools.count():
        before = "" if not number else f"{number}-" if number < _NUMBERS else f"{part.name[1:9]}-"
        target = part.with_name(before + name)
        try:
            place(part, target)
        except FileExistsError:
            if number >= _NUMBERS:
                raise
        else:
            return target
    raise AssertionError("without end")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


async def _pieces(session: Session, file: BinaryIO, size: int, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0
    while done < size:
        piece = await session.receive()
        done += len(piece)
        if done > size:
            raise TransferFailed("more arrived than was announced")
        digest.update(piece)
        await asyncio.to_thread(file.write, piece)
        progress(done, size)
    try:
        trailer = msgspec.json.decode(await session.receive(), type=_Trailer)
    except msgspec.DecodeError:
        raise TransferFailed("more arrived than was announced") from None
    if trailer.sha256 != digest.hexdigest():
        raise TransferFailed("the checksum does not match")
    return trailer.sha256
