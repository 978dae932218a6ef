"""`peer listen` and `peer connect`: what each kind of input means, and who ends when."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from peers import Identity, Peer, PeerConfig, Session, SessionClosed
from peers.cli import sessions, talk
from peers.session import SessionEnd
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.cli.commands import Running, peer, run_peer
from tests.support.ports import free_port
from tests.support.readers import read_some

KINDS = ["pipe", "file", "socket", "terminal"]
SHORT = ("--linger", "0.4")
"""Seconds of quiet, where a test would wait a whole one for nothing."""


@pytest.fixture
def base(relay: RelayServer, tmp_path: Path) -> tuple[str, ...]:
    return ("--relay", relay.url, "--key", str(tmp_path / "command.key"))


@contextlib.contextmanager
def given(kind: str, data: bytes, folder: Path) -> Iterator[int]:
    """A standard input that has all of the data, and then ends."""
    if kind == "file":
        (folder / "given").write_bytes(data)
        ends = [os.open(folder / "given", os.O_RDONLY)]
    elif kind == "null":
        ends = [os.open(os.devnull, os.O_RDONLY)]
    elif kind == "terminal":
        ends = list(reversed(os.openpty()))
        os.write(ends[1], data + b"\x04")
    else:
        made = os.pipe() if kind == "pipe" else (one.detach() for one in socket.socketpair())
        ends = list(made)
        os.write(ends[1], data)
        os.close(ends.pop())
    try:
        yield ends[0]
    finally:
        for one in ends:
            os.close(one)


@contextlib.asynccontextmanager
async def offering(alice: Peer) -> AsyncIterator["asyncio.Queue[Session]"]:
    """Alice's service `chat`: its sessions in a queue."""
    sessions: asyncio.Queue[Session] = asyncio.Queue()
    listener = alice.listen("chat")
    await alice.published()

    async def take() -> None:
        async for session in listener:
            sessions.put_nowait(session)

    taking = asyncio.ensure_future(take())
    try:
        yield sessions
    finally:
        listener.close()
        await taking


async def listening(running: Running) -> str:
    """Wait until `peer listen` does; return its GUID."""
    line = await running.news()
    assert line.startswith("listening for chat as ")
    return line.rpartition(" ")[2]


@pytest.mark.parametrize("kind", KINDS)
async def test_all_that_was_given_is_sent_and_the_replies_come(
    alice: Peer, base: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    async with offering(alice) as sessions:
        with given(kind, b"one\ntwo\n", tmp_path) as stdin:
            async with peer(*base, "connect", alice.guid, "chat", *SHORT, stdin=stdin) as running:
                session = await sessions.get()
                for message in (b"one", b"two"):
                    assert await session.receive() == message
                    await session.send(b"reply to " + message)
                assert await running.ended() == 0
                out, err = await running.rest()
                assert out == "reply to one\nreply to two\n"
                assert len(err.splitlines()) == 1
                assert not [message async for message in session]


async def test_replies_go_on_as_long_as_they_come(alice: Peer, base: tuple[str, ...]) -> None:
    async with (
        offering(alice) as sessions,
        peer(*base, "connect", alice.guid, "chat", *SHORT) as running,
    ):
        running.say("tell me")
        running.end_input()
        session = await sessions.get()
        assert await session.receive() == b"tell me"
        began = asyncio.get_running_loop().time()
        number = 0
        while asyncio.get_running_loop().time() < began + 1.0:
            await session.send(b"%d" % number)
            assert await running.line() == str(number)
            number += 1
        assert await running.ended() == 0


async def test_an_answer_may_take_its_time_and_the_end_is_the_other_side_s(
    alice: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    """The other side hears of the end of the input, and answers what it has read by then."""
    async with offering(alice) as sessions:
        with given("pipe", b"one\ntwo\n", tmp_path) as stdin:
            async with peer(*base, "connect", alice.guid, "chat", stdin=stdin) as running:
                session = await sessions.get()
                read = [message async for message in session]
                assert read == [b"one", b"two"]
                # Longer than it waits for an answer where it cannot tell of its end.
                await asyncio.sleep(1.5)
                assert not running.task.done()
                for message in read:
                    await session.send(b"reply to " + message)
                await session.finish()
                assert await running.ended() == 0
                out, _ = await running.rest()
                assert out == "reply to one\nreply to two\n"


async def test_a_service_that_echoes_ends_with_its_caller(bob: Peer, base: tuple[str, ...]) -> None:
    async with peer(*base, "listen", "chat", "--echo") as running:
        session = await bob.connect(await listening(running), "chat")
        for number in range(100):
            await session.send(b"%d" % number)
        await session.finish()
        assert [message async for message in session] == [b"%d" % n for n in range(100)]
        await session.close()


async def test_no_linger_closes_at_once(alice: Peer, base: tuple[str, ...], tmp_path: Path) -> None:
    async with offering(alice) as sessions:
        with given("file", b"one", tmp_path) as stdin:
            async with peer(
                *base, "connect", alice.guid, "chat", "--linger", "0", stdin=stdin
            ) as running:
                session = await sessions.get()
                assert [message async for message in session] == [b"one"]
                assert await running.ended() == 0


@pytest.mark.parametrize("kind", ["null", "closed"])
async def test_nothing_to_send_from_means_to_receive_until_the_other_side_closes(
    alice: Peer, base: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    async with offering(alice) as sessions:
        with contextlib.ExitStack() as stack:
            stdin = None if kind == "closed" else stack.enter_context(given(kind, b"", tmp_path))
            async with peer(
                *base, "connect", alice.guid, "chat", "--linger", "0", stdin=stdin
            ) as running:
                session = await sessions.get()
                for number in range(3):
                    await session.send(b"%d" % number)
                    assert await running.line() == str(number)
                assert not running.task.done()
                await session.close()
                assert await running.ended() == 0


async def test_the_other_side_may_end_it(alice: Peer, base: tuple[str, ...]) -> None:
    async with (
        offering(alice) as sessions,
        peer(*base, "connect", alice.guid, "chat") as running,
    ):
        session = await sessions.get()
        await session.send(b"enough")
        await session.close()
        assert await running.ended() == 0  # Nothing was under way: a clean end.
        assert (await running.rest())[0] == "enough\n"


@pytest.mark.parametrize("words", [("connect",), ("ping",)])
async def test_a_caller_that_is_ended_closes_its_session(
    alice: Peer, base: tuple[str, ...], words: tuple[str, ...]
) -> None:
    async with offering(alice) as sessions, peer(*base, *words, alice.guid, "chat") as running:
        session = await sessions.get()
        if words == ("connect",):
            running.say("one")
        assert await session.receive()
        await running.stop()
        with pytest.raises(SessionClosed):
            await session.receive()


async def test_what_could_not_be_sent_any_more_is_told(
    alice: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    more_than_the_window = (b"x" * 100_000 + b"\n") * 200
    async with offering(alice) as sessions:
        with given("file", more_than_the_window, tmp_path) as stdin:
            async with peer(*base, "connect", alice.guid, "chat", stdin=stdin) as running:
                session = await sessions.get()
                await session.send(b"enough")
                await session.close()
                assert await running.ended() == 11
                out, err = await running.rest()
                assert out == "enough\n"
                assert err.splitlines()[1:] == [
                    "peer: the other side has closed before all was sent"
                ]


async def test_a_line_that_is_too_long_is_one_clear_error(
    alice: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    async with offering(alice) as sessions:
        with given("file", b"before\n" + b"x" * (2 << 20) + b"\nafter\n", tmp_path) as stdin:
            async with peer(*base, "connect", alice.guid, "chat", stdin=stdin) as running:
                session = await sessions.get()
                assert [message async for message in session] == [b"before"]
                assert await running.ended() == 1
                _, err = await running.rest()
                assert err.splitlines()[1:] == [
                    "peer: a line of standard input has more than 1 MiB (1048576 bytes)"
                ]


async def test_a_directory_is_one_clear_error(
    alice: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        async with offering(alice):
            code, _, err = await run_peer(*base, "connect", alice.guid, "chat", stdin=folder)
            assert code == 1
            assert "peer: cannot read standard input: Is a directory" in err
        async with peer(*base, "listen", "chat", stdin=folder) as running:
            await listening(running)
            assert "cannot read standard input" in await running.news()
            assert not running.task.done()
    finally:
        os.close(folder)


@pytest.mark.parametrize("kind", ["null", "closed", "pipe", "file"])
async def test_a_service_goes_on_when_its_input_has_ended(
    bob: Peer, base: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        stdin = None if kind == "closed" else stack.enter_context(given(kind, b"", tmp_path))
        async with peer(*base, "listen", "chat", stdin=stdin) as running:
            guid = await listening(running)
            for number in range(2):
                async with await bob.connect(guid, "chat") as session:
                    await session.send(b"%d" % number)
                    assert await running.line() == str(number)
            assert not running.task.done()


async def test_lines_of_a_file_wait_for_a_caller(
    bob: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    with given("file", b"one\n" + b"x" * (2 << 20) + b"\ntwo\n", tmp_path) as stdin:
        async with peer(*base, "listen", "chat", stdin=stdin) as running:
            guid = await listening(running)
            async with await bob.connect(guid, "chat") as session:
                assert await session.receive() == b"one"
                assert await session.receive() == b"two"
                assert "session with" in await running.news()
                assert "more than 1 MiB" in await running.news()


async def test_what_is_typed_for_nobody_is_told_and_kept_for_nobody(
    bob: Peer, base: tuple[str, ...]
) -> None:
    hand, stdin = os.openpty()
    try:
        async with peer(*base, "listen", "chat", stdin=stdin) as running:
            guid = await listening(running)
            os.write(hand, b"secret\n")
            assert await running.news() == "nobody is here: not sent"
            async with await bob.connect(guid, "chat") as session:
                assert "session with" in await running.news()
                os.write(hand, b"hello\n")
                assert await session.receive() == b"hello"
    finally:
        os.close(hand)
        os.close(stdin)


async def test_a_caller_that_does_not_read_does_not_keep_the_lines_of_the_next(
    bob: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    size = 100
    line = b"x" * (1 << 19)
    with given("file", (line + b"\n") * size, tmp_path) as stdin:
        async with peer(*base, "listen", "chat", stdin=stdin) as running:
            guid = await listening(running)
            deaf = await bob.connect(guid, "chat")
            await deaf.receive()
            async with await bob.connect(guid, "chat") as session:
                assert await session.receive() == line
            deaf.abort()


async def test_foreign_text_is_only_text(bob: Peer, base: tuple[str, ...]) -> None:
    async with peer(*base, "listen", "chat") as running:
        guid = await listening(running)
        session = await bob.connect(guid, "chat")
        await running.news()
        session.abort("no such file [/etc/motd] \x1b[31m\nsession with nobody")
        said = await running.news()
        assert said.startswith("session ended: ")
        assert r"no such file [/etc/motd] \x1b[31m\x0asession with nobody" in said
        async with await bob.connect(guid, "chat") as session:
            await session.send(b"still here")
            assert await running.line() == "still here"


@pytest.mark.expected_errors("unexpected")
async def test_what_nobody_expected_in_one_session_leaves_the_others(
    bob: Peer, base: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = SessionEnd.send

    async def failing(self: SessionEnd, message: bytes) -> None:
        if message == b"fail" and not self.terms.is_caller:
            raise KeyError("nobody expected it")
        await send(self, message)

    monkeypatch.setattr(SessionEnd, "send", failing)
    async with peer(*base, "listen", "chat", "--echo") as running:
        guid = await listening(running)
        async with await bob.connect(guid, "chat") as good:
            bad = await bob.connect(guid, "chat")
            await bad.send(b"fail")
            while "unexpected" not in (said := await running.news()):
                pass
            assert said == "session ended: unexpected KeyError: 'nobody expected it'"
            for session in (good, await bob.connect(guid, "chat")):
                await session.send(b"hello")
                assert await session.receive() == b"hello"


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_a_contact_is_unknown_while_there_is_no_relay(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    async def told(running: Running) -> str:
        if words:
            return str(await running.fact())
        while " is " not in (line := await running.news()):
            pass  # What is logged stands between.
        return line

    config = PeerConfig(close_timeout=0.1)
    async with (
        RelayServer(RelayConfig(port=0)) as server,
        Peer(Identity.generate(), server.url, config=config) as alice,
    ):
        alice.listen("chat")
        await alice.published()
        base = ("--relay", server.url, "--key", str(tmp_path / "b.key"))
        async with peer(*base, "watch", alice.guid, *words) as running:
            assert "online" in await told(running)
            for connection in list(server.connections):
                connection.abort("gone")
            server.doorkeeper.draining = True
            unknown = await told(running)
    assert "unknown" in unknown
    assert words or "no relay" in unknown


@pytest.mark.parametrize("command", ["listen", "connect", "watch", "expose", "receive"])
async def test_a_command_that_only_prints_ends_with_its_reader(
    alice: Peer, base: tuple[str, ...], command: str, tmp_path: Path
) -> None:
    reader, stdout = os.pipe()
    words = {
        "listen": ("listen", "other"),
        "connect": ("connect", alice.guid, "chat"),
        "watch": ("watch", alice.guid, "--json"),
        "expose": ("expose", "ssh", "--port", "22", "--json"),
        "receive": ("receive", str(tmp_path), "--json"),
    }
    try:
        async with (
            offering(alice),
            peer(*base, *words[command], stdin=None, stdout=stdout) as running,
        ):
            if "--json" in words[command]:
                assert await read_some(reader)
            else:
                await running.news()
            os.close(reader)
            assert await running.ended() == 141
            assert (await running.rest())[1] == ""
    finally:
        os.close(stdout)


async def test_a_full_disk_ends_a_command_with_one_line(alice: Peer, base: tuple[str, ...]) -> None:
    stdout = os.open("/dev/full", os.O_WRONLY)
    try:
        async with (
            offering(alice) as sessions,
            peer(*base, "connect", alice.guid, "chat", stdout=stdout) as running,
        ):
            session = await sessions.get()
            assert "connected" in await running.news()
            await session.send(b"hello")
            assert await running.ended() == 1
            assert (await running.rest())[1] == (
                "peer: cannot write to standard output: No space left on device\n"
            )
    finally:
        os.close(stdout)


async def test_a_reader_that_does_not_read_holds_up_its_session_and_nothing_else(
    bob: Peer, base: tuple[str, ...]
) -> None:
    reader, stdout = os.pipe()
    try:
        async with peer(*base, "listen", "chat", stdout=stdout) as running:
            guid = await listening(running)
            session = await bob.connect(guid, "chat")
            count = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(1):
                        await session.send(b"x" * (1 << 19))
                    count += 1
            # The window, the queue and the pipe are full; the peer still answers everybody.
            other = await bob.connect(guid, "chat")
            assert session.path is not None
            assert other.path is not None
            read = 0
            while read < count * ((1 << 19) + 1):
                read += len(await read_some(reader, 1 << 20))
            await other.close()
            await session.close()
    finally:
        os.close(reader)
        os.close(stdout)


async def test_a_service_that_does_not_echo_is_told(
    alice: Peer, base: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "_ECHO_WAIT", 0.2)
    async with offering(alice):
        code, out, err = await run_peer(*base, "ping", alice.guid, "chat")
    assert code == 8
    assert out == ""
    assert err == "peer: chat does not echo: nothing came in 0.2 s\n"


async def test_closed_errors_and_a_closed_output_harm_nobody(
    bob: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    guid = Identity.load_or_create(tmp_path / "command.key").guid
    nothing = {"stdin": None, "stdout": None, "stderr": None}
    async with (
        peer(*base, "listen", "chat", "--echo", **nothing),
        await bob.connect(guid, "chat", wait=True) as session,
    ):
        await session.send(b"hello")
        assert await session.receive() == b"hello"


async def test_verbose_logs_one_line_an_event(base: tuple[str, ...]) -> None:
    async with peer("-v", *base, "listen", "chat", stdin=None) as running:
        lines = [await running.news()]
        while "listening for chat" not in lines[-1]:
            lines.append(await running.news())
        assert any("DEBUG" in line or "INFO" in line for line in lines)


COMMANDS = [
    (("listen", "chat"), "listening for chat as "),
    (("receive", "."), "receiving as "),
    (("expose", "ssh", "--port", "22"), "ssh on port 22 can be located as "),
]


@pytest.mark.parametrize(("command", "told"), COMMANDS, ids=lambda value: value[0])
async def test_what_is_offered_before_its_relay_is_there_waits_for_it_and_says_so(
    command: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_PATIENCE", 0.05)
    port = free_port()
    base = ("--relay", f"http://127.0.0.1:{port}", "--key", str(tmp_path / "command.key"))
    async with peer(*base, *command, stdin=None) as running:
        line = await running.news()
        while "cannot connect" not in line:
            assert "waiting for an answer" in line
            line = await running.news()
        assert line.startswith("peer: waiting, not registered yet: ")
        async with RelayServer(RelayConfig(port=port)):
            assert (await running.news()).startswith(told), "it says once that it waits"


@pytest.mark.parametrize("command", [("listen", "chat"), ("connect", "chat"), ("ping", "chat")])
async def test_who_names_no_relay_is_told_how(command: tuple[str, str], tmp_path: Path) -> None:
    name, service = command
    whom = () if name == "listen" else (Identity.generate().guid,)
    code, _, said = await run_peer("--key", str(tmp_path / "a.key"), name, *whom, service)
    assert (code, len(said.splitlines())) == (3, 1)
    assert "--relay http://HOST:PORT" in said


async def test_who_has_one_key_for_both_sides_is_told_so(
    base: tuple[str, ...], tmp_path: Path
) -> None:
    key = base[base.index("--key") + 1]
    guid = Identity.load_or_create(key).guid
    code, _, said = await run_peer(*base, "connect", guid, "chat")
    assert code == 2
    assert said == "peer: guid is this peer's own: each side needs a key of its own\n"


async def test_who_connects_has_a_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = tmp_path / "peer.toml"
    config.write_text("connect_timeout = 0.05\n")
    base = ("--relay", f"http://127.0.0.1:{port}", "--key", str(tmp_path / "command.key"))
    code, _, said = await run_peer(
        "--config", str(config), *base, "connect", Identity.generate().guid, "chat"
    )
    assert code == 3
    assert "waiting" not in said


async def test_a_word_before_the_session_is_shown_and_a_refusal_is_told(
    alice: Peer, bob: Peer, base: tuple[str, ...], tmp_path: Path
) -> None:
    async with peer(*base, "listen", "chat", "--json") as running:
        guid = str((await running.fact())["guid"])
        there = ("--relay", base[1], "--key", str(tmp_path / "other.key"))
        async with peer(*there, "connect", guid, "chat", "--metadata", "room 7\u202e"):
            assert (await running.fact())["metadata"] == "room 7\u202e"
        session = await bob.connect(guid, "chat", metadata=b"\xff\x00")
        assert (await running.fact())["metadata_base64"] == "/wA="
        await session.close()
        code, _, err = await run_peer(*there, "connect", guid, "chat", "--metadata", "x" * 1025)
        assert (code, err) == (2, "peer: metadata has at most 1024 bytes, not 1025\n")
    async with peer(*base, "listen", "chat") as running:
        guid = await listening(running)
        session = await bob.connect(guid, "chat", metadata="room 7\u202e".encode())
        assert (await running.news()).endswith(r" (room 7\u202e)")
        await session.close()
    # What the other program gives as its reason acts on no terminal.
    alice.listen("members", accept=lambda request: "members \x1b[2J only")
    await alice.published()
    code, _, err = await run_peer(*there, "connect", alice.guid, "members")
    assert (code, err) == (6, "peer: members \\x1b[2J only\n")
