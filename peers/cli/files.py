"""What `peer send` and `peer receive` do."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from peers import Mode, Session, SessionClosed, SessionLost
from peers.cli.bars import Bars
from peers.cli.file_transfer import TransferFailed, receive_file, send_file
from peers.cli.output import OutputFailed
from peers.cli.parts import Parts
from peers.cli.sessions import MakePeer, closing, following, path_of, registered, serve_each
from peers.cli.terminal import Terminal
from peers.tasks import Tasks, unless

__all__ = ["FILE_SERVICE", "receive", "send"]

FILE_SERVICE = "file"
"""The service of `peer send` and `peer receive`."""


class _Done:
    """How far a transfer is."""

    def __init__(self) -> None:
        self.bytes = self.size = 0
        self._told = -1

    def changed(self) -> bool:
        """Whether it is farther than when this was asked last."""
        told, self._told = self._told, self.bytes
        return self.bytes != told


@contextlib.asynccontextmanager
async def _telling(
    terminal: Terminal, done: _Done, every: float | None, **facts: str
) -> AsyncIterator[None]:
    """Tell programs how far a transfer is, once in `every` seconds and when that has changed."""

    async def tell() -> None:
        while every is not None:
            await asyncio.sleep(every)
            if done.size and done.changed():
                with contextlib.suppress(OutputFailed):  # The command ends by it.
                    await terminal.tell(
                        "", event="progress", **facts, bytes=done.bytes, size=done.size
                    )

    tasks = Tasks()
    if terminal.as_json and every is not None:
        tasks.spawn(tell())
    try:
        yield
    finally:
        await tasks.close()


async def send(
    terminal: Terminal,
    make_peer: MakePeer,
    guid: str,
    file: Path,
    *,
    mode: str | None = None,
    every: float | None = None,
) -> None:
    """Send a file, with a bar on a terminal; with `every`, programs are told so often how far it
    is. A signal cancels it, and the receiver is told.

    Raises:
        TransferFailed: it cannot be read, or the receiver could not store it.
        TransferCancelled: the receiver has cancelled it.
        RoamRelayError: as `Peer.connect`.
    """
    sent = _Done()
    async with make_peer() as peer:
        began = time.perf_counter()
        chosen = Mode(mode) if mode is not None else None
        session = await peer.connect(guid, FILE_SERVICE, mode=chosen)
        setup = time.perf_counter() - began
        async with closing(session):
            with terminal.bars() as bars:
                bar = bars.add(file.name)

                def progress(done: int, total: int) -> None:
                    sent.bytes, sent.size = done, total
                    bar.progress(done, total)

                def show(where: str) -> None:
                    bar.label(f"{file.name} ({where})")

                async with (
                    following(session, terminal, show),
                    _telling(terminal, sent, every, file=file.name),
                ):
                    try:
                        told = await send_file(session, file, progress)
                    except asyncio.CancelledError:
                        await terminal.tell(
                            f"not sent: {file.name}: cancelled",
                            event="cancelled",
                            file=file.name,
                            bytes=sent.bytes,
                        )
                        raise
            path = path_of(session)
            seconds = time.perf_counter() - began - setup
        resumed = f", gone on with at {told.resumed}" if told.resumed else ""
        await terminal.tell(
            f"sent {file.name}: {sent.bytes} bytes in {seconds:.2f} s ({path}){resumed}",
            event="sent",
            file=file.name,
            bytes=sent.bytes,
            seconds=seconds,
            setup=setup,
            sha256=told.sha256,
            resumed=told.resumed,
            mode=session.mode,
            path=path,
        )


async def receive(
    terminal: Terminal,
    make_peer: MakePeer,
    folder: Path,
    *,
    allow: tuple[str, ...] | None = None,
    once: bool = False,
    every: float | None = None,
) -> None:
    """Receive files, several at a time, until Ctrl-C, which cancels what is under way and tells the
    senders; with `once` until one has arrived whole, with `every` as `send`.

    Raises:
        TransferFailed: there is no such folder, and none can be made.
        RoamRelayError: as `Peer.listen`.
    """
    arrived = asyncio.Event()

    async def serve(session: Session, bars: Bars) -> None:
        got = _Done()
        with bars.add(session.remote[:8]) as bar:

            def progress(done: int, total: int) -> None:
                got.bytes, got.size = done, total
                bar.progress(done, total)

            async with _telling(terminal, got, every, remote=session.remote):
                try:
                    stored = await receive_file(session, parts, progress)
                except asyncio.CancelledError:
                    if got.size:
                        await terminal.tell(
                            f"not received from {session.remote}: cancelled",
                            event="cancelled",
                            remote=session.remote,
                            bytes=got.bytes,
                        )
                    raise
        await terminal.tell(
            f"received {stored.path} from {session.remote}",
            event="received",
            file=str(stored.path),
            sha256=stored.sha256,
            resumed=stored.resumed,
            remote=session.remote,
            bytes=got.bytes,
        )
        # The file is here: how the session ends changes nothing any more.
        with contextlib.suppress(SessionClosed, SessionLost):
            await session.close()
        if once:
            arrived.set()

    async def ended(session: Session, reason: str) -> None:
        await terminal.tell(f"not received: {reason}", event="failed", reason=reason)

    parts = Parts(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts.tidy()
    except OSError as error:
        raise TransferFailed(f"cannot make {folder}: {error.strerror}") from None
    async with registered(
        terminal, make_peer, lambda peer: peer.listen(FILE_SERVICE, allow=allow)
    ) as (peer, listener):
        await terminal.tell(f"receiving as {peer.guid}", event="listening", guid=peer.guid)
        if terminal.as_json:
            terminal.ends_unread()
        with terminal.bars() as bars:
            await unless(
                arrived,
                lambda: serve_each(listener, lambda session: serve(session, bars), ended),
            )
