"""What `peer send` and `peer receive` do."""

import asyncio
import contextlib
import time
from pathlib import Path

from peers import Mode, Session, SessionClosed, SessionLost
from peers.cli.bars import Bars
from peers.cli.file_transfer import TransferFailed, receive_file, send_file
from peers.cli.sessions import MakePeer, closing, following, path_of, registered, serve_each
from peers.cli.terminal import Terminal
from peers.tasks import unless

__all__ = ["FILE_SERVICE", "receive", "send"]

FILE_SERVICE = "file"
"""The service of `peer send` and `peer receive`."""


async def send(
    terminal: Terminal, make_peer: MakePeer, guid: str, file: Path, *, mode: str | None = None
) -> None:
    """Send a file, with a bar on a terminal.

    Raises:
        TransferFailed: it cannot be read, or the receiver could not store it.
        RoamRelayError: as `Peer.connect`.
    """
    size = 0
    async with make_peer() as peer:
        began = time.perf_counter()
        chosen = Mode(mode) if mode is not None else None
        session = await peer.connect(guid, FILE_SERVICE, mode=chosen)
        setup = time.perf_counter() - began
        async with closing(session):
            with terminal.bars() as bars:
                bar = bars.add(file.name)

                def progress(done: int, total: int) -> None:
                    nonlocal size
                    size = done
                    bar.progress(done, total)

                def show(where: str) -> None:
                    bar.label(f"{file.name} ({where})")

                async with following(session, terminal, show):
                    digest = await send_file(session, file, progress)
            path = path_of(session)
            seconds = time.perf_counter() - began - setup
        await terminal.tell(
            f"sent {file.name}: {size} bytes in {seconds:.2f} s ({path})",
            event="sent",
            file=file.name,
            bytes=size,
            seconds=seconds,
            setup=setup,
            sha256=digest,
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
) -> None:
    """Receive files, several at a time, until Ctrl-C; with `once` until one has arrived whole.

    Raises:
        TransferFailed: there is no such folder, and none can be made.
        RoamRelayError: as `Peer.listen`.
    """
    arrived = asyncio.Event()

    async def serve(session: Session, bars: Bars) -> None:
        size = 0
        with bars.add(session.remote[:8]) as bar:

            def progress(done: int, total: int) -> None:
                nonlocal size
                size = done
                bar.progress(done, total)

            stored, digest = await receive_file(session, folder, progress)
        await terminal.tell(
            f"received {stored} from {session.remote}",
            event="received",
            file=str(stored),
            sha256=digest,
            remote=session.remote,
            bytes=size,
        )
        # The file is here: how the session ends changes nothing any more.
        with contextlib.suppress(SessionClosed, SessionLost):
            await session.close()
        if once:
            arrived.set()

    async def ended(session: Session, reason: str) -> None:
        await terminal.tell(f"not received: {reason}", event="failed", reason=reason)

    try:
        folder.mkdir(parents=True, exist_ok=True)
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
