"""A blocking face for scripts and threads: `with blocking.Peer(identity, relay=...) as peer`.

It is thin: each peer has one event loop in a thread of its own, and every call is made there and
waited for. Any thread may call. What the calls mean and raise is said in `peers.Peer` and
`peers.Session`; here is what blocking adds. An interrupt (Ctrl-C) cancels the call that it meets,
and leaving the block closes the peer cleanly.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from peers import peer as asynchronous
from peers.choice import Select
from peers.config import (
    DdnsConfig,
    DialWord,
    ModeWord,
    PeerConfig,
    SelectWord,
    checked_function,
    checked_seconds,
)
from peers.control import Status
from peers.location import Located
from peers.path import Path
from peers.services import Accept, SessionRequest
from peers.services import Listener as AsyncListener
from peers.session import Explanation, SessionFigures
from peers.session import Session as AsyncSession
from protocol.errors import CallbackFailed, ConnectionClosed, SessionClosed, UsageError
from protocol.identity import Identity
from protocol.messages import Mode
from protocol.session import State

__all__ = ["Listener", "Peer", "Session"]

_T = TypeVar("_T")

INTERRUPTS_SEEN = 0.5
"""Seconds: a signal that comes just before a thread begins to wait does not wake it, and is seen
this late at the latest."""


_THREADS, _THREADS_EACH = 128, 16
"""In which a program's `accept` runs: in all, and for one caller."""


class _Call(Generic[_T]):
    """One piece of work in the loop, waited for by a thread that a signal may interrupt anywhere.

    An interrupt is raised between any two instructions, and leaves a lock that Python code holds
    (a future's condition) held, or let go twice. So the two threads share one bare lock that only
    the loop's thread lets go, and all else is done there.
    """

    __slots__ = ("_finished", "_task", "_work")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._work = work
        self._task: asyncio.Task[_T] | None = None
        self._finished = threading.Lock()
        self._finished.acquire()

    def begin(self) -> None:
        """Begin the work. In the loop's thread."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _: self._finished.release())

    def cancel(self) -> None:
        """Cancel the work, as far as it has begun. In the loop's thread."""
        if self._task is not None:
            self._task.cancel()

    def finished(self, timeout: float) -> "asyncio.Task[_T] | None":
        """Wait for the end of the work, for so many seconds at most. None: it has not come."""
        return self._task if self._finished.acquire(timeout=timeout) else None

    async def _run(self) -> _T:
        return await self._work()


class _Thread:
    """A thread that runs an event loop, until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A program that ends without closing its peer ends all the same.
        self._thread = threading.Thread(target=self._run, name="peers.blocking", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do the work in the loop and return its result. Whatever interrupts this cancels it."""
        if threading.current_thread() is self._thread:
            raise UsageError(
                "a blocking call in its own loop would wait for itself: use peers.Peer"
            )
        doing = _Call(work)
        try:
            self._tell(doing.begin)
            # No end of its own: each work has one, or waits for what the program waits for.
            while (finished := doing.finished(INTERRUPTS_SEEN)) is None:
                if self._loop.is_closed():
                    raise ConnectionClosed("the peer was closed meanwhile: make another one")
            if finished.cancelled():
                raise ConnectionClosed("the peer was closed meanwhile: make another one")
            return finished.result()
        except BaseException:
            with contextlib.suppress(ConnectionClosed):
                self._tell(doing.cancel)
            raise

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:  # It is closed.
            raise ConnectionClosed("the peer is closed: make another one") from None

    def stop(self) -> None:
        """End the loop and its thread. Does nothing the second time."""
        with contextlib.suppress(RuntimeError):  # It is closed.
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()


class Session:
    """A session, as `peers.Session`; `for message in session` ends when the other side closes, and
    `with session` closes it, or aborts it where the block raises.

    One thread may send while another one receives.
    """

    def __init__(self, thread: _Thread, session: AsyncSession) -> None:
        self._thread = thread
        self._session = session

    def __repr__(self) -> str:
        return repr(self._session)

    @property
    def remote(self) -> str:
        """The GUID of the other peer."""
        return self._session.remote

    @property
    def service(self) -> str:
        """The service that the session is for."""
        return self._session.service

    @property
    def mode(self) -> Mode:
        """The mode that it was opened in."""
        return self._session.mode

    @property
    def metadata(self) -> bytes:
        """What the session's caller has given to `connect`."""
        return self._session.metadata

    @property
    def path(self) -> Path | None:
        """The path that it is on; None while there is none."""
        return self._session.path

    @property
    def state(self) -> State:
        """What the session is."""
        return self._session.state

    def explain(self) -> Explanation:
        """Return why the path is what it is."""
        return self._session.explain()

    def figures(self) -> SessionFigures:
        """Return what it has carried so far."""
        return self._session.figures()

    def send(self, message: bytes | bytearray | memoryview) -> int:
        """Send one message; wait while the window is full. Return its number."""
        return self._thread.call(lambda: self._session.send(message))

    def acknowledged(self, number: int | None = None) -> None:
        """Wait until message `number`, or all that was sent until now, has arrived."""
        self._thread.call(lambda: self._session.acknowledged(number))

    def receive(self, timeout: float | None = None) -> bytes:
        """Return the next message; wait for it, for `timeout` seconds at most.

        Raises:
            TimeoutError: none came in that time. None is lost by it.
        """
        return self._thread.call(lambda: _within(timeout, self._session.receive()))

    def close(self, timeout: float | None = None) -> None:
        """Close the session; return when all that was sent has arrived and both sides agree."""
        self._thread.call(lambda: self._session.close(timeout))

    def abort(self, reason: str = "aborted by the application") -> None:
        """End the session at once. Does nothing to one that is over."""

        async def abort() -> None:
            self._session.abort(reason)

        with contextlib.suppress(ConnectionClosed):  # Its peer is closed: so is it.
            self._thread.call(abort)

    def __iter__(self) -> Iterator[bytes]:
        with contextlib.suppress(SessionClosed):
            while True:
                yield self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort(f"the application failed: {kind.__name__ if kind else ''}")


class Listener:
    """A service that is offered: `for session in listener`, until it is closed. Each session may be
    given to a thread of its own."""

    def __init__(self, thread: _Thread, listener: AsyncListener) -> None:
        self._thread = thread
        self._listener = listener

    def accept(self, timeout: float | None = None) -> Session:
        """Return the next session; wait for it, for `timeout` seconds at most.

        Raises:
            TimeoutError: none came in that time.
            ConnectionClosed: the service or the peer is closed.
        """

        async def accepted() -> AsyncSession:
            try:
                return await anext(self._listener)
            except StopAsyncIteration:
                raise ConnectionClosed("the service is closed") from None

        return Session(self._thread, self._thread.call(lambda: _within(timeout, accepted())))

    def close(self) -> None:
        """Take the service back."""

        async def close() -> None:
            self._listener.close()

        self._thread.call(close)

    def __iter__(self) -> Iterator[Session]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield self.accept()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ConnectionClosed):
            self.close()


class Peer:
    """A peer, as `peers.Peer`: inside `with` it is registered, afterwards nothing is left."""

    def __init__(
        self,
        identity: Identity,
        relay: str | None = None,
        *,
        ddns: DdnsConfig | None = None,
        dial: DialWord | None = None,
        config: PeerConfig | None = None,
    ) -> None:
        self._peer = asynchronous.Peer(identity, relay, ddns=ddns, dial=dial, config=config)
        self._running: _Thread | None = None

    @property
    def guid(self) -> str:
        """The GUID of this peer."""
        return self._peer.guid

    @property
    def status(self) -> Status:
        """How this peer stands with its relay."""
        return self._peer.status

    def start(self) -> Self:
        """Open the peer, as `with` does; whoever calls this calls `close` in the end."""
        if self._running is not None:
            raise ConnectionClosed("a peer is entered once: make another one")
        self._running = _Thread()
        try:
            self._running.call(self._peer.start)
        except BaseException:
            self.close()
            raise
        return self

    def close(self, timeout: float | None = None) -> None:
        """Close the peer. Interrupted, it is closed at once, and nothing is left all the same."""
        if self._running is None:
            return
        try:
            with contextlib.suppress(ConnectionClosed):
                self._running.call(lambda: self._peer.close(timeout))
        finally:
            self._running.stop()

    def listen(
        self,
        service: str,
        *,
        allow: Collection[str] | None = None,
        disclose: str | Collection[str] = "anyone",
        accept: Callable[[SessionRequest], bool | str] | None = None,
    ) -> Listener:
        """Offer a service, and wait until it can be found. `accept` is called in a thread of its
        own for each request, so that it may use the peer, and take its 3 s."""
        checked = None if accept is None else _in_threads(accept)

        async def listen() -> AsyncListener:
            listener = self._peer.listen(service, allow=allow, disclose=disclose, accept=checked)
            try:
                await self._peer.published()
            except BaseException:
                listener.close()
                raise
            return listener

        return Listener(self._thread, self._thread.call(listen))

    def connect(
        self,
        guid: str,
        service: str,
        *,
        mode: ModeWord | None = None,
        timeout: float | None = None,
        wait: bool = False,
        policy: str | None = None,
        select: Select | SelectWord | None = None,
        metadata: bytes = b"",
    ) -> Session:
        """Open a session with a peer's service."""

        def opening() -> Coroutine[Any, Any, AsyncSession]:
            return self._peer.connect(
                guid,
                service,
                mode=mode,
                timeout=timeout,
                wait=wait,
                policy=policy,
                select=select,
                metadata=metadata,
            )

        thread = self._thread
        return Session(thread, thread.call(opening))

    def locate(self, guid: str, service: str, *, timeout: float | None = None) -> Located:
        """Ask where a peer's service is."""
        return self._thread.call(lambda: self._peer.locate(guid, service, timeout=timeout))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _thread(self) -> _Thread:
        if self._running is None:
            raise ConnectionClosed(
                "the peer is not open: use it inside 'with Peer(...)', or behind its start()"
            )
        return self._running


def _in_threads(function: Callable[[SessionRequest], bool | str]) -> Accept:
    """Return a function that runs this one in a thread of its own: one that hangs holds up neither
    the loop, nor the end of the program. It counts until it ends, whatever was answered meanwhile:
    a caller that finds too many is refused."""
    checked_function(function, "accept")
    running: Counter[str] = Counter()

    async def accept(request: SessionRequest) -> bool | str:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bool | str | Exception] = loop.create_future()
        if running[request.remote] >= _THREADS_EACH or running.total() >= _THREADS:
            raise CallbackFailed("accept has not ended for too many callers before")
        running[request.remote] += 1

        def tell(said: bool | str | Exception) -> None:
            running[request.remote] -= 1
            if not running[request.remote]:
                del running[request.remote]
            if not found.done():  # Else it comes too late.
                found.set_result(said)

        def run() -> None:
            said: bool | str | Exception
            try:
                said = function(request)
            except Exception as error:
                said = error
            except BaseException as error:  # As sys.exit(), which would end the loop.
                said = CallbackFailed(f"accept raised {type(error).__name__}")
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody asks any more.
                loop.call_soon_threadsafe(tell, said)

        try:
            threading.Thread(target=run, name="peers.blocking accept", daemon=True).start()
        except RuntimeError as error:  # The system has no thread more.
            tell(CallbackFailed(f"accept cannot be called: {error}"))
        said = await found
        if isinstance(said, Exception):
            raise said
        return said

    return accept


async def _within(timeout: float | None, work: Coroutine[Any, Any, _T]) -> _T:
    if timeout is not None:
        try:
            checked_seconds(timeout)
        except BaseException:
            work.close()
            raise
    async with asyncio.timeout(timeout):
        return await work
