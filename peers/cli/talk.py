"""What the subcommands of `peer` do."""

import asyncio
import contextlib
import statistics
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path as FilePath
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from peers.cli.file_transfer import TransferFailed, receive_file, send_file
from peers.config import Identity, PeerConfig
from peers.path import Path
from peers.peer import Peer
from peers.session import Session
from protocol.errors import RoamRelayError, SessionClosed, SessionLost

__all__ = ["FILE_SERVICE", "connect", "listen", "ping", "receive", "send", "watch"]

FILE_SERVICE = "file"
"""The service of `peer send` and `peer receive`."""

MakeIdentity = Callable[[], Identity]
_errors = Console(stderr=True)


def _say(as_json: bool, text: str, **facts: Any) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
        sys.stdout.flush()
    else:
        _errors.print(text, highlight=False)


def _path(session: Session) -> str:
    return _where(session.path)


def _where(path: Path | None) -> str:
    return f"{path.kind.value}, {path.local} to {path.remote}" if path else "no path"


async def _lines() -> AsyncIterator[bytes]:
    """Yield the lines of standard input without their ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    try:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
    except (ValueError, OSError):  # A regular file: reading it never blocks for long.
        for line in sys.stdin.buffer:
            yield line.rstrip(b"\r\n")
        return
    try:
        while line := await reader.readline():
            yield line.rstrip(b"\r\n")
    finally:
        transport.close()


async def _print_messages(session: Session) -> None:
    async for message in session:
        sys.stdout.buffer.write(message + b"\n")
        sys.stdout.buffer.flush()


async def connect(
    config: PeerConfig,
    identity: MakeIdentity,
    guid: str,
    service: str,
    mode: str | None,
    policy: str | None,
    wait: bool,
) -> None:
    """Lines of standard input out, messages in, until either side ends."""
    async with Peer(identity(), config=config) as peer:
        session = await peer.connect(guid, service, mode=mode, policy=policy, wait=wait)
        _errors.print(f"connected: {session.mode.value}, {_path(session)}", highlight=False)

        def show(where: str) -> None:
            _errors.print(f"now: {where}", highlight=False)

        async with (
            session,
            _following(session, False, show),
            asyncio.TaskGroup() as tasks,
        ):
            printing = tasks.create_task(_print_messages(session))
            sending = tasks.create_task(_send_lines(session))
            await asyncio.wait({printing, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and sending.exception() is None:
                await session.close()
            else:
                sending.cancel()


async def _send_lines(session: Session) -> None:
    async for line in _lines():
        try:
            await session.send(line)
        except SessionClosed:
            return


async def listen(
    config: PeerConfig,
    identity: MakeIdentity,
    service: str,
    allow: tuple[str, ...] | None,
    disclose: str,
    echo: bool,
    as_json: bool,
) -> None:
    """Print what arrives; echo it, or send typed lines to the last caller."""
    current: list[Session] = []

    async def serve(session: Session) -> None:
        current[:] = [session]
        facts = {"event": "session", "remote": session.remote, "mode": session.mode}
        _say(as_json, f"session with {session.remote}: {_path(session)}", **facts)
        try:
            async for message in session:
                if echo:
                    await session.send(message)
                else:
                    sys.stdout.buffer.write(message + b"\n")
                    sys.stdout.buffer.flush()
        except (SessionClosed, SessionLost) as error:
            _say(as_json, f"session ended: {error}", event="ended", reason=str(error))

    async def typed() -> None:
        async for line in _lines():
            if current:
                with contextlib.suppress(RoamRelayError):
                    await current[0].send(line)

    async with Peer(identity(), config=config) as peer:
        listener = peer.listen(service, allow=allow, disclose=disclose)
        await peer.published()
        facts = {"event": "listening", "guid": peer.guid, "service": service}
        _say(as_json, f"listening for {service} as {peer.guid}", **facts)
        async with asyncio.TaskGroup() as tasks:
            if not echo:
                tasks.create_task(typed())
            async for session in listener:
                tasks.create_task(serve(session))


@contextlib.asynccontextmanager
async def _following(
    session: Session, as_json: bool, show: Callable[[str], None]
) -> AsyncIterator[None]:
    """Show where the session's path leads whenever that changes."""

    async def follow() -> None:
        events = session.events()
        await anext(events)  # How it is now is told already.
        async for event in events:
            where = _where(event.path)
            show(where)
            if as_json:
                _say(True, "", event="path", path=where, reason=event.reason)

    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=_errors,
        transient=not _errors.is_terminal,
        disable=not _errors.is_terminal,
    )


async def send(
    config: PeerConfig,
    identity: MakeIdentity,
    guid: str,
    file: FilePath,
    mode: str | None,
    as_json: bool,
) -> None:
    """Send a file, with a bar on a terminal."""
    async with Peer(identity(), config=config) as peer:
        loop = asyncio.get_running_loop()
        began = loop.time()
        session = await peer.connect(guid, FILE_SERVICE, mode=mode)
        setup = loop.time() - began
        path = _path(session)
        async with session:
            with _bar() as bar:
                task = bar.add_task(file.name, total=None)
                async with _following(
                    session,
                    as_json,
                    lambda where: bar.update(task, description=f"{file.name} ({where})"),
                ):
                    digest = await send_file(
                        session,
                        file,
                        lambda done, size: bar.update(task, completed=done, total=size),
                    )
            path = _path(session)
            seconds = loop.time() - began - setup
        size = file.stat().st_size
        _say(
            as_json,
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
    config: PeerConfig,
    identity: MakeIdentity,
    folder: FilePath,
    allow: tuple[str, ...] | None,
    once: bool,
    as_json: bool,
) -> None:
    """Receive files, several at a time, until Ctrl-C (or one with `once`)."""

    async def serve(session: Session, bar: Progress) -> bool:
        task = bar.add_task(session.remote[:8], total=None)
        try:
            stored, digest = await receive_file(
                session, folder, lambda done, size: bar.update(task, completed=done, total=size)
            )
            await session.close()
        except (TransferFailed, SessionClosed, SessionLost) as error:
            session.abort(str(error))
            _say(as_json, f"not received: {error}", event="failed", reason=str(error))
            return False
        finally:
            bar.remove_task(task)
        _say(
            as_json,
            f"received {stored} from {session.remote}",
            event="received",
            file=str(stored),
            sha256=digest,
            remote=session.remote,
            bytes=stored.stat().st_size,
        )
        return True

    async with Peer(identity(), config=config) as peer:
        listener = peer.listen(FILE_SERVICE, allow=allow)
        await peer.published()
        _say(as_json, f"receiving as {peer.guid}", event="listening", guid=peer.guid)
        with _bar() as bar:
            if once:
                async for session in listener:
                    if await serve(session, bar):
                        return
            async with asyncio.TaskGroup() as tasks:
                async for session in listener:
                    tasks.create_task(serve(session, bar))


async def watch(config: PeerConfig, identity: MakeIdentity, guid: str, as_json: bool) -> None:
    """Print how a peer stands, and every change, until Ctrl-C."""
    async with (
        Peer(identity(), config=config) as peer,
        contextlib.aclosing(peer.watch(guid)) as presences,
    ):
        async for presence in presences:
            seen = presence.last_seen
            told = "" if seen is None else f", last seen {seen:.0f} s ago"
            _say(
                as_json,
                f"{guid[:8]} has moved"
                if presence.moved
                else f"{guid[:8]} is {presence.state}{told}",
                event="presence",
                guid=guid,
                state=presence.state,
                last_seen=seen,
                moved=presence.moved,
            )


async def ping(
    config: PeerConfig,
    identity: MakeIdentity,
    guid: str,
    service: str,
    mode: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Print round trips of messages that the other side echoes."""
    loop = asyncio.get_running_loop()
    times = []
    async with Peer(identity(), config=config) as peer:
        began = loop.time()
        session = await peer.connect(guid, service, mode=mode)
        setup = loop.time() - began
        path = _path(session)
        async with session:
            for number in range(count):
                sent = loop.time()
                await session.send(b"ping %d" % number)
                try:
                    async with asyncio.timeout(10):
                        await session.receive()
                except TimeoutError:
                    raise TransferFailed(f"{service} does not echo: nothing came in 10 s") from None
                times.append(loop.time() - sent)
    milliseconds = [time * 1000 for time in times]
    median = statistics.median(milliseconds)
    _say(
        as_json,
        f"{count} round trips over {session.mode.value} ({path}): "
        f"min {min(milliseconds):.2f}, median {median:.2f}, max {max(milliseconds):.2f} ms; "
        f"setup {setup * 1000:.1f} ms",
        event="ping",
        mode=session.mode,
        path=path,
        setup=setup,
        round_trips=times,
    )
