"""One file over one session: the pieces, then the checksum, then the other side's word.

What it is called and how large it is stands in the session's metadata, so that the callee can say
no before anything comes.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from examples.chat.clean import file_name
from peers import Session

__all__ = ["Offer", "TransferFailed", "receive", "send"]

Progress: TypeAlias = Callable[[int], None]
"""Is told how many bytes have passed."""

_PIECE = 64 << 10
_PATIENCE = 60.0
"""Seconds for the other side to say that it has the file, when all of it was sent."""
_STORED = b"stored"


class TransferFailed(Exception):
    """A file did not arrive. Says why."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be sent."""

    name: str
    size: int

    @property
    def metadata(self) -> bytes:
        """What `Peer.connect` is given. A long name is cut, as 1,024 bytes is all there is."""
        return json.dumps({"name": self.name[-100:], "size": self.size}).encode()

    @classmethod
    def read(cls, metadata: bytes) -> "Offer | None":
        """Return what a caller offers; None where that is no offer."""
        try:
            told = json.loads(metadata)
            name, size = told["name"], told["size"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not isinstance(name, str) or type(size) is not int or size < 0:
            return None
        return cls(file_name(name), size)


async def send(session: Session, path: Path, size: int, progress: Progress) -> None:
    """Send a file, and wait until the other side has it.

    Raises:
        TransferFailed: it has changed meanwhile, or the other side has not got it.
        OSError: it cannot be read.
        RoamRelayError: the session was lost.
    """
    digest, sent = hashlib.sha256(), 0
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            digest.update(piece)
            sent += len(piece)
            if sent > size:
                break
            await session.send(piece)
            progress(sent)
    finally:
        file.close()
    if sent != size:
        raise TransferFailed("the file has changed while it was sent: send it again")
    await session.send(digest.digest())
    async with asyncio.timeout(_PATIENCE):
        answer = await session.receive()
    if answer != _STORED:
        raise TransferFailed("the other side could not keep it")


async def receive(session: Session, offer: Offer, folder: Path, progress: Progress) -> Path:
    """Take the file that was offered into a folder; return where it is. What is not whole is
    removed.

    Raises:
        TransferFailed: something else came than was offered.
        OSError: it cannot be written.
        RoamRelayError: the session was lost.
    """
    path, file = await asyncio.to_thread(_opened, folder, offer.name)
    is_whole = False
    try:
        digest, came = hashlib.sha256(), 0
        # No timeout: how long a file may take is the user's to decide, who can break it off.
        while came < offer.size:
            piece = await session.receive()
            came += len(piece)
            if not piece or came > offer.size:
                raise TransferFailed("it is not as large as was said")
            digest.update(piece)
            await asyncio.to_thread(file.write, piece)
            progress(came)
        if await session.receive() != digest.digest():
            raise TransferFailed("it has been damaged on its way: ask for it again")
        await asyncio.to_thread(file.close)
        is_whole = True
    finally:
        file.close()
        if not is_whole:
            path.unlink(missing_ok=True)
    await session.send(_STORED)
    return path


def _opened(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    """Make a file that was not there: nothing of the user's is ever written over."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, dot, ending = name.rpartition(".")
    for number in range(1, 1_000):
        tried = (
            name
            if number == 1
            else f"{stem or ending}-{number}{dot if stem else ''}{ending if stem else ''}"
        )
        try:
            return folder / tried, (folder / tried).open("xb")
        except FileExistsError:
            continue
    raise FileExistsError(f"there are too many files of this name in {folder}")
