"""The blocking face: what a script sees, in whichever thread, and that nothing is left of it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import (
    CallbackFailed,
    ConnectionClosed,
    Identity,
    Mode,
    PeerConfig,
    Refused,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    SessionRequest,
    UnknownPeer,
    UsageError,
)
from peers import blocking as face
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.fake_path import FakePath

LONG = 60.0
"""Seconds: nothing takes that long."""


@pytest.fixture
def url() -> Iterator[str]:
    """A relay in a loop of its own."""
    ready, stop = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with RelayServer(RelayConfig(port=0)) as relay:
            urls.append(relay.url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(LONG)
    yield urls[0]
    stop.set()
    thread.join(LONG)


def ours() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "peers.blocking"]


def echo(listener: face.Listener) -> None:
    for session in listener:
        with session:
            for message in session:
                session.send(message)


def test_a_script(url: str) -> None:
    alice = face.Peer(Identity.generate(), url)
    with alice, face.Peer(Identity.generate(), url) as bob:
        listener = alice.listen("chat")
        serving = threading.Thread(target=echo, args=(listener,))
        serving.start()
        with bob.connect(alice.guid, "chat", mode="combined") as session:
            for number in range(20):
                session.send(b"%d" % number)
                assert session.receive() == b"%d" % number
            assert (session.remote, session.service) == (alice.guid, "chat")
            assert session.path is not None
            with pytest.raises(TimeoutError):
                session.receive(timeout=0.01)
            session.send(b"not lost by it")
            assert session.receive(timeout=LONG) == b"not lost by it"
        assert bob.status.is_registered
        with pytest.raises(UnknownPeer):
            bob.locate(Identity.generate().guid, "chat")
    serving.join(LONG)
    assert not serving.is_alive(), "closing the peer ends its listeners"
    assert ours() == []
    with pytest.raises(ConnectionClosed, match="closed"):
        bob.locate(alice.guid, "chat")
    with pytest.raises(ConnectionClosed):
        session.send(b"late")


def test_any_thread_may_call(url: str) -> None:
    with face.Peer(Identity.generate(), url) as alice, face.Peer(Identity.generate(), url) as bob:
        listener = alice.listen("chat")
        session, there = bob.connect(alice.guid, "chat"), listener.accept(LONG)

        def send(name: int) -> None:
            for _ in range(50):
                session.send(bytes([name]))

        threads = [threading.Thread(target=send, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        got = sorted(there.receive(LONG) for _ in range(200))
        for thread in threads:
            thread.join(LONG)
        assert got == sorted(bytes([name]) for name in range(4) for _ in range(50))


def test_a_function_that_decides_runs_in_a_thread_of_its_own(url: str) -> None:
    with face.Peer(Identity.generate(), url) as alice, face.Peer(Identity.generate(), url) as bob:
        threads = []

        def accept(request: SessionRequest) -> bool | str:
            threads.append(threading.current_thread().name)
            # It may use the peer: nothing waits for itself.
            alice.locate(alice.guid, "chat")
            match request.metadata:
                case b"exit":
                    sys.exit("of the program")
                case b"room 7":
                    return True
                case _:
                    return "no such room"

        listener = alice.listen("chat", accept=accept)
        with pytest.raises(Refused, match="no such room"):
            bob.connect(alice.guid, "chat", mode="p2p")
        session = bob.connect(alice.guid, "chat", mode="p2p", metadata=b"room 7")
        assert listener.accept(LONG).metadata == session.metadata == b"room 7"
        assert threads == ["peers.blocking accept"] * 2
        with pytest.raises(TypeError, match="accept"):
            alice.listen("other", accept=True)  # type: ignore[arg-type]


@pytest.mark.expected_errors("accept of 'chat' failed")
def test_a_function_that_ends_the_program_or_hangs_ends_nothing(url: str) -> None:
    hangs = threading.Event()
    with face.Peer(Identity.generate(), url) as alice, face.Peer(Identity.generate(), url) as bob:

        def accept(request: SessionRequest) -> bool | str:
            if request.metadata == b"exit":
                sys.exit("of the program")
            hangs.wait()
            return True

        alice.listen("chat", accept=accept)
        with pytest.raises(RoamRelayError, match="failed to decide"):
            bob.connect(alice.guid, "chat", mode="p2p", metadata=b"exit")
        with pytest.raises(RequestTimeout, match="in time"):
            bob.connect(alice.guid, "chat", mode="p2p")
    assert ours() == []
    hangs.set()


async def test_so_many_threads_decide_at_once_for_all_and_for_each_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They count until they end, also where nobody waits for the answer any more."""
    monkeypatch.setattr(face, "_THREADS", 5)
    monkeypatch.setattr(face, "_THREADS_EACH", 3)
    hangs = threading.Event()
    decide = face._in_threads(lambda request: hangs.wait())
    callers = [request_of(guid) for guid in ("alice", "bob", "carol")]

    async def ask(number: int) -> bool | str:
        said = decide(callers[number])
        assert not isinstance(said, bool | str)
        return await said

    try:
        waiting = [asyncio.create_task(ask(number)) for number in (0, 0, 0, 1, 1)]
        await asyncio.sleep(0)
        for number in range(3):
            with pytest.raises(CallbackFailed, match="not ended for too many"):
                await ask(number)
        assert threads_deciding() == 5
        for one in waiting[:2]:
            one.cancel()
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        with pytest.raises(CallbackFailed, match="not ended for too many"):
            await ask(0)
    finally:
        hangs.set()
    assert await asyncio.gather(*waiting[2:]) == [True] * 3
    async with asyncio.timeout(60):
        while threads_deciding():
            await asyncio.sleep(0.01)
    assert [await ask(number) for number in (0, 1, 2)] == [True] * 3


def request_of(caller: str) -> SessionRequest:
    return SessionRequest(caller, "chat", Mode.P2P, b"", FakePath().path)


def threads_deciding() -> int:
    return sum(one.name == "peers.blocking accept" for one in threading.enumerate())


async def test_where_there_is_no_thread_more_a_caller_is_refused_and_takes_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(face, "_THREADS_EACH", 1)
    decide = face._in_threads(lambda request: True)

    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> bool | str:
        said = decide(request_of("alice"))
        assert not isinstance(said, bool | str)
        return await said

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        for _ in range(3):
            with pytest.raises(CallbackFailed, match="can't start new thread"):
                await ask()
    assert await ask() is True


def test_a_start_that_fails_leaves_no_thread() -> None:
    config = PeerConfig(connect_timeout=0.2)
    with pytest.raises(RelayUnavailable):
        face.Peer(Identity.generate(), "http://127.0.0.1:1", config=config).start()
    assert ours() == []


def test_wrong_use_is_told(url: str) -> None:
    peer = face.Peer(Identity.generate(), url)
    peer.close()
    with pytest.raises(ConnectionClosed, match="with Peer"):
        peer.listen("chat")
    with peer:
        with pytest.raises(ConnectionClosed, match="once"):
            peer.start()
        with pytest.raises(ValueError, match="1 to 63"):
            peer.connect(peer.guid, "")
        listener = peer.listen("chat")
        with pytest.raises(TypeError, match="timeout"):
            listener.accept(timeout="soon")  # type: ignore[arg-type]

        thread = peer._thread

        async def waits_for_itself() -> None:
            with pytest.raises(UsageError, match="wait for itself"):
                peer.locate(peer.guid, "chat")

        thread.call(waits_for_itself)


PROGRAM = """
import sys, threading
from peers import Identity
from peers.blocking import Peer

with Peer(Identity.generate(), sys.argv[1]) as peer:
    listener = peer.listen("chat")
    try:
        print("ready", flush=True)
        listener.accept()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("closed", threading.active_count(), flush=True)
"""


def test_an_interrupt_cleans_up(url: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, url],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            os.kill(program.pid, signal.SIGINT)
            out, errors = program.communicate(timeout=LONG)
        finally:
            with contextlib.suppress(ProcessLookupError):
                program.kill()
    assert (program.returncode, out, errors) == (0, "interrupted\nclosed 1\n", "")


class Interrupted(BaseException):
    """What the clock of the next test raises."""


def test_an_interrupt_is_never_lost_wherever_it_comes(url: str) -> None:
    """A signal is raised between any two instructions, also of what a blocking call is made of."""
    came = 0

    def interrupt(_: int, __: object) -> None:
        raise Interrupted

    async def for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with face.Peer(Identity.generate(), url) as peer:
            for turn in range(300):
                with contextlib.suppress(Interrupted):
                    signal.setitimer(signal.ITIMER_REAL, 20e-6 + turn % 100 * 4e-6)
                    peer._thread.call(for_ever)
                came += 1
            # The loop has taken no harm.
            assert peer._thread.call(peer._peer.published) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came == 300
