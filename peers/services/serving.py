"""Serving the sessions of a service: a task for each, in a bounded number.

What the program does in one of them ends that one, and no other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from peers.config import log
from peers.services.listener import Listener
from peers.session import Session
from peers.tasks import Tasks
from protocol.errors import CallbackFailed, SessionClosed, SessionLost

__all__ = ["Handler", "serve_sessions"]

Handler: TypeAlias = Callable[[Session], Awaitable[object]]
"""The program's async function for one session."""


async def serve_sessions(listener: Listener, handler: Handler, max_sessions: int) -> None:
    """Serve until the listener ends, or this is cancelled; no task is left then.

    Raises:
        RoamRelayError: the peer has lost its registration for good.
    """
    tasks = Tasks()
    room = asyncio.Semaphore(max_sessions)
    is_closing = False

    async def serve(session: Session) -> None:
        try:
            await _serve(session, handler)
        except asyncio.CancelledError:
            # A peer that closes closes its sessions too, cleanly. Else the other side must not take
            # what was cut short for an end.
            if not is_closing:
                session.abort("the service is closed")
            raise
        finally:
            room.release()

    try:
        while True:
            # No timeout: how long the sessions of now take is the program's to decide.
            await room.acquire()
            try:
                session = await anext(listener)
            except StopAsyncIteration:
                is_closing = True
                return
            tasks.spawn(serve(session))
    finally:
        listener.close()
        await tasks.close()


async def _serve(session: Session, handler: Handler) -> None:
    """Serve one session to its end. Whatever the handler raises is told once."""
    try:
        ending = handler(session)
        if not isinstance(ending, Awaitable):
            raise CallbackFailed(f"the handler is an async function, and returned {ending!r:.80}")
        await ending
        await session.close()
    except Exception as error:
        if isinstance(error, SessionClosed | SessionLost) and session.is_over:
            log.info("a session ended", peer=session.remote[:8], reason=error.reason)
            return
        session.abort("the service failed")
        # As asyncio tells of what a program's callback raises: to be seen also where the program
        # asks for no log.
        asyncio.get_running_loop().call_exception_handler(
            {
                "message": f"the handler of {session.service!r} failed; its session with "
                f"{session.remote[:8]} was aborted",
                "exception": error,
            }
        )
