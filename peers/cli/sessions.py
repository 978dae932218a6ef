"""What the commands share about sessions: a task for each of a service's, and where one leads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from peers import Listener, Peer, Session
from peers.cli.output import OutputFailed
from peers.cli.terminal import Terminal
from peers.tasks import Tasks
from protocol.errors import RoamRelayError

__all__ = ["MakePeer", "closing", "following", "path_of", "registered", "serve_each"]

_PATIENCE = 2.0
"""Seconds after which a command that waits for the relay says so."""

_T = TypeVar("_T")
MakePeer = Callable[[], Peer]
"""Makes the peer that a command works with, inside its loop."""


def path_of(session: Session) -> str:
    """Return in words where a session's path leads."""
    path = session.path
    return f"{path.kind.value}, {path.local} to {path.remote}" if path else "no path"


@contextlib.asynccontextmanager
async def closing(session: Session) -> AsyncIterator[Session]:
    """Close a session at the end. Where the command is ended by a signal that is left to the peer,
    which closes all that it has in the time for it."""
    try:
        yield session
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        session.abort(f"the application failed: {type(error).__name__}")
        raise
    await session.close()


@contextlib.asynccontextmanager
async def following(
    session: Session, terminal: Terminal, show: Callable[[str], None]
) -> AsyncIterator[None]:
    """Show where the session's path leads whenever that changes; tell it to programs too."""

    async def follow() -> None:
        events = session.events()
        known = (await anext(events)).path  # How it is now is told already.
        async for event in events:
            path, was = event.path, known
            known = path
            if path is not None and path is was:
                if terminal.as_json:
                    beside = event.standby
                    where = f"{beside.local} to {beside.remote}" if beside else "none"
                    with contextlib.suppress(OutputFailed):
                        await terminal.tell("", event="standby", path=where, reason=event.reason)
                continue
            where = f"{path.kind.value}, {path.local} to {path.remote}" if path else "no path"
            show(where)
            if terminal.as_json:
                with contextlib.suppress(OutputFailed):  # The command ends by it.
                    await terminal.tell("", event="path", path=where, reason=event.reason)

    tasks = Tasks()
    tasks.spawn(follow())
    try:
        yield
    finally:
        await tasks.close()


@contextlib.asynccontextmanager
async def registered(
    terminal: Terminal, make_peer: MakePeer, offer: Callable[[Peer], _T]
) -> AsyncIterator[tuple[Peer, _T]]:
    """Give a peer and what it offers, when that can be found. Where the network, the name server or
    the relay is not there yet, it waits for them without end, and says so once, with the reason.

    Raises:
        RoamRelayError: it is refused for good.
    """
    tasks = Tasks()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(tasks.close)
        peer = make_peer()
        told = tasks.spawn(_tell_waiting(terminal, peer))
        await stack.enter_async_context(peer)
        offered = offer(peer)
        await peer.published()
        if told is not None:
            told.cancel()
        yield peer, offered


async def _tell_waiting(terminal: Terminal, peer: Peer) -> None:
    """Say that it waits; and why, as soon as that is known. The log has what changes."""
    await asyncio.sleep(_PATIENCE)
    if peer.failure is None:
        terminal.notice("peer: waiting for an answer from the relay")
    while peer.failure is None:
        await asyncio.sleep(_PATIENCE)
    terminal.notice(f"peer: waiting, not registered yet: {peer.failure.reason}")


async def serve_each(
    listener: Listener,
    serve: Callable[[Session], Awaitable[None]],
    ended: Callable[[Session, str], Awaitable[None]],
) -> None:
    """Serve every session of a listener until it is closed; then end those that are left. Whatever
    one of them does, the others go on.

    What ends a session before its time is told with `ended`. What nobody expected is logged with
    its traceback, and told in one line too.

    Raises:
        RoamRelayError: the registration is lost for good.
    """
    tasks = Tasks()

    async def one(session: Session) -> None:
        try:
            await serve(session)
        except OutputFailed:
            raise
        except RoamRelayError as error:
            session.abort(error.reason)
            await ended(session, error.reason)
        except Exception as error:
            session.abort("unexpected")
            await ended(session, f"unexpected {type(error).__name__}: {error}")
            raise

    async def guarded(session: Session) -> None:
        with contextlib.suppress(OutputFailed):  # The command ends by it.
            await one(session)

    try:
        async for session in listener:
            tasks.spawn(guarded(session))
    finally:
        await tasks.close()
