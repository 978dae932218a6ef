"""Sending a file over a session, and receiving it: a header, the pieces, a checksum.

The header is one JSON message (name and size), pieces are raw messages, and the
last message is JSON again with the checksum of all pieces. The receiver answers with one message,
also while pieces come: `ok`, or why not. Whoever is cancelled says so: the receiver by its answer,
the sender by the reason with which it aborts the session. A file appears under its own name only
when it is whole.

A header with a token (`resume`) may be answered, before that, by what the receiver has of the file
from an earlier attempt: how many bytes, and their checksum. The sender goes on sending meanwhile;
where its file begins with the same bytes it says from where it goes on: an empty message, then
`{"from": …}`. Versions that know nothing of it send no token, or pass it over.
"""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, BinaryIO, NamedTuple, TypeVar

import msgspec

from peers import Session
from peers.cli.names import names_for
from peers.cli.parts import WORTH, Part, Parts
from peers.cli.source import PIECE, opened
from peers.disk import place
from protocol.errors import RoamRelayError, SessionClosed, SessionLost

__all__ = ["Sent", "Stored", "TransferCancelled", "TransferFailed", "receive_file", "send_file"]

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


_CANCELLED_THERE = "cancelled by the sender"
"""Why the sender aborts."""
_STEP = 16 * PIECE
"""Bytes that are read at once where they are only looked at."""

_Told = TypeVar("_Told", bound=msgspec.Struct)
_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""Bytes; no file system has larger files."""
_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Header(msgspec.Struct, frozen=True, omit_defaults=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    size: _Size
    resume: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] | None = None
    """The same for each attempt to send the same file; None: it cannot be gone on with."""


class _Had(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The receiver has the beginning of the file."""

    have: _Size
    sha256: _Sha256


class _From(msgspec.Struct, frozen=True):
    """The sender goes on from here."""

    start: _Size = msgspec.field(name="from")


class _Trailer(msgspec.Struct, frozen=True):
    sha256: _Sha256


class Sent(NamedTuple):
    """A file that the receiver has stored."""

    sha256: str
    """Of all of it (hex)."""
    resumed: int
    """Bytes at its beginning that the receiver had from an earlier attempt."""


class Stored(NamedTuple):
    """A file that has arrived whole."""

    path: Path
    sha256: str
    """Of all of it (hex)."""
    resumed: int
    """Bytes at its beginning that were here from an earlier attempt."""


async def send_file(session: Session, path: Path, progress: Progress) -> Sent:
    """Send one file, or what a pipe gives until its end, and wait until the receiver has stored
    it.

    Raises:
        TransferFailed: the file cannot be read, or the receiver could not store it.
        TransferCancelled: the receiver has cancelled it.
        SessionLost, SessionClosed: the session ended first.
    """
    loop = asyncio.get_running_loop()
    had: asyncio.Future[_Had] = loop.create_future()
    answering = loop.create_task(_answer_of(session, had))
    sending = loop.create_task(_send(session, path, progress, had))
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
        session.abort(_CANCELLED_THERE)
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


def _succeeded(task: "asyncio.Task[Sent]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _answer_of(session: Session, had: "asyncio.Future[_Had]") -> bytes:
    """Return the receiver's answer; what it has already goes to `had`."""
    while True:
        answer = await session.receive()
        try:
            told = msgspec.json.decode(answer, type=_Had)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return answer
        if not had.done():
            had.set_result(told)


async def _send(
    session: Session, path: Path, progress: Progress, had: "asyncio.Future[_Had]"
) -> Sent:
    """Send all of a file that the receiver has not; the checksum is that of the whole."""
    digest = hashlib.sha256()
    # A name need not be UTF-8; the header is.
    name = os.fsencode(path.name).decode(errors="replace")
    try:
        async with opened(path) as (file, size):
            token = _token(file)
            resume = token if size > WORTH else None
            await session.send(msgspec.json.encode(_Header(name, size, resume)))
            done, resumed, is_compared = 0, 0, False
            while done < size:
                if had.done() and not is_compared:
                    is_compared = True
                    start = had.result().have
                    if done < start <= size:
                        ahead = await _read_on(file, digest.copy(), start - done)
                        if ahead.hexdigest() == had.result().sha256:
                            digest, done, resumed = ahead, start, start
                            await session.send(b"")
                            await session.send(msgspec.json.encode(_From(start)))
                            progress(done, size)
                            continue
                        file.seek(done)
                piece = await asyncio.to_thread(file.read, min(PIECE, size - done))
                if not piece:
                    raise TransferFailed(f"{path} became shorter while it was sent")
                digest.update(piece)
                await session.send(piece)
                done += len(piece)
                progress(done, size)
            if _token(file) != token:
                raise TransferFailed(f"{path} was changed while it was sent: send a copy of it")
    except OSError as error:
        raise TransferFailed(f"cannot read {path}: {error.strerror}") from None
    await session.send(msgspec.json.encode(_Trailer(digest.hexdigest())))
    return Sent(digest.hexdigest(), resumed)


def _token(file: IO[bytes]) -> str | None:
    """Return what is the same as long as a file is; None of what came out of a pipe."""
    if isinstance(file, tempfile.SpooledTemporaryFile):
        return None
    there = os.fstat(file.fileno())
    what = (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


async def _read_on(file: IO[bytes], digest: "hashlib._Hash", count: int) -> "hashlib._Hash":
    """Look at the next bytes of a file; return the checksum that goes on with them."""
    while count > 0:
        piece = await asyncio.to_thread(file.read, min(_STEP, count))
        if not piece:
            break
        await asyncio.to_thread(digest.update, piece)
        count -= len(piece)
    return digest


async def receive_file(session: Session, parts: Parts, progress: Progress) -> Stored:
    """Receive one file into a folder; return where it is.

    A name that exists already gets a number. What was stored is removed when the rest fails, but
    where the session ended without a word: that is kept for the sender's next attempt.

    Raises:
        TransferFailed: it cannot be stored, or did not arrive as it was sent.
        SessionLost, SessionClosed: the session ended first.
    """
    try:
        stored = await _store(session, parts, progress)
    except TransferFailed as failure:
        await _answer(session, failure.reason.encode()[:1000])
        raise
    except asyncio.CancelledError:
        await _answer(session, _CANCELLED.encode())
        raise
    await _answer(session, b"ok")
    return stored


async def _answer(session: Session, answer: bytes) -> None:
    # What became of the file does not depend on whether the sender still hears it.
    with contextlib.suppress(SessionClosed, SessionLost):
        await session.send(answer)


async def _store(session: Session, parts: Parts, progress: Progress) -> Stored:
    try:
        header = msgspec.json.decode(await session.receive(), type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TransferFailed("this is no file transfer") from None
    try:
        # Whatever the file's name is: what it has before it is whole can be had.
        async with parts.open(session, header.resume, header.size) as part:
            coming = _Coming(part, header.size, progress)
            try:
                digest = await _pieces(session, parts, coming)
            except (SessionLost, SessionClosed) as ended:
                is_cancelled = _CANCELLED_THERE in str(ended)
                part.is_kept = max(coming.done, part.had) > WORTH and not is_cancelled
                raise
            except OSError:
                # A disk that is full now is not for ever: what was here before is worth as much.
                part.is_kept = part.had > WORTH
                raise
            await asyncio.to_thread(_finish, part.file, header.size)
            stored = await asyncio.to_thread(_placed, part.path, header.name)
            return Stored(stored, digest, coming.resumed)
    except OSError as error:
        raise TransferFailed(f"cannot store {header.name}: {error.strerror}") from None


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


def _finish(file: BinaryIO, size: int) -> None:
    file.truncate(size)
    file.flush()
    os.fsync(file.fileno())


@dataclass
class _Coming:
    """How far a file is."""

    part: Part
    size: int
    progress: Progress
    done: int = 0
    resumed: int = 0
    """Bytes that were there, and were not sent anew."""

    def add(self, count: int) -> None:
        """So many bytes more are there."""
        self.done += count
        self.progress(self.done, self.size)


async def _pieces(session: Session, parts: Parts, coming: _Coming) -> str:
    part, digest = coming.part, hashlib.sha256()
    if part.had:
        there = await _read_on(part.file, hashlib.sha256(), part.had)
        await session.send(msgspec.json.encode(_Had(part.had, there.hexdigest())))
        part.file.seek(0)
    while coming.done < coming.size:
        piece = await session.receive()
        parts.moved(part)
        if not piece and part.had:
            start = _told(await session.receive(), _From).start
            if start != part.had or start < coming.done:
                raise TransferFailed("it goes on from where nothing is")
            digest = await _read_on(part.file, digest, start - coming.done)
            coming.add(start - coming.done)
            coming.resumed = start
            continue
        if coming.done + len(piece) > coming.size:
            raise TransferFailed("more arrived than was announced")
        digest.update(piece)
        await asyncio.to_thread(part.file.write, piece)
        coming.add(len(piece))
    sha256 = _told(await session.receive(), _Trailer).sha256
    if sha256 != digest.hexdigest():
        raise TransferFailed("the checksum does not match")
    return sha256


def _told(message: bytes, kind: type[_Told]) -> _Told:
    try:
        return msgspec.json.decode(message, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TransferFailed("more arrived than was announced") from None
