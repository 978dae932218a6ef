"""What a program sees of a peer: sessions, and typed failures that come at once."""

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path

import psutil
import pytest

from peers import (
    Identity,
    IdentityError,
    LimitExceeded,
    Mode,
    PathFailed,
    PathKind,
    Peer,
    PeerConfig,
    PeerOffline,
    Refused,
    Session,
    SessionClosed,
    SessionLost,
    UnknownPeer,
    UnknownService,
    WrongIdentity,
)
from peers.cli.file_transfer import TransferFailed, receive_file, send_file
from peers.cli.parts import Parts
from peers.path.open_paths import Paths
from protocol.endpoint import Endpoint
from protocol.errors import RoamRelayError
from protocol.messages import PathHello
from protocol.session.settings import SessionSettings
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support import scale
from tests.support.direct_path import dial_direct
from tests.support.rooms import rooms

MODES = pytest.mark.parametrize("mode", list(Mode))


async def pair(alice: Peer, bob: Peer, mode: Mode) -> tuple[Session, Session]:
    listener = alice.listen("chat")
    await alice.published()
    here = await bob.connect(alice.guid, "chat", mode=mode)
    return here, await anext(listener)


@MODES
async def test_unknown_peer_and_service(alice: Peer, bob: Peer, mode: Mode) -> None:
    with pytest.raises(UnknownPeer):
        await bob.connect(Identity.generate().guid, "chat", mode=mode)
    with pytest.raises(UnknownService):
        await bob.connect(alice.guid, "chat", mode=mode)
    with pytest.raises(IdentityError):
        await bob.connect("nobody", "chat", mode=mode)
    with pytest.raises(ValueError, match="nonsense"):
        await bob.connect(alice.guid, "chat", mode="nonsense")


@MODES
async def test_offline_says_since_when(relay: RelayServer, bob: Peer, mode: Mode) -> None:
    async with Peer(Identity.generate(), relay.url) as gone:
        gone.listen("chat")
        await gone.published()
    with pytest.raises(PeerOffline) as caught:
        await bob.connect(gone.guid, "chat", mode=mode)
    assert caught.value.last_seen is not None


@MODES
async def test_who_is_not_allowed_is_refused_with_the_reason(
    alice: Peer, bob: Peer, mode: Mode
) -> None:
    alice.listen("chat", allow=[Identity.generate().guid])
    await alice.published()
    with pytest.raises(RoamRelayError, match="chat is not for this peer"):
        await bob.connect(alice.guid, "chat", mode=mode)


async def test_who_discloses_to_nobody_is_reached_through_the_relay_only(
    alice: Peer, bob: Peer
) -> None:
    listener = alice.listen("chat", disclose="nobody")
    await alice.published()
    for mode, policy in ((Mode.P2P, ""), (Mode.COMBINED, "only direct")):
        with pytest.raises(Refused, match="central"):
            await bob.connect(alice.guid, "chat", mode=mode, policy=policy)
    session = await bob.connect(alice.guid, "chat", mode=Mode.COMBINED)
    assert session.mode is Mode.AUTO
    assert session.path is not None
    assert session.path.kind is PathKind.RELAYED
    await anext(listener)
    session.abort()
    session = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL)
    await session.send(b"hello")
    assert await (await anext(listener)).receive() == b"hello"


@MODES
async def test_close_brings_all_that_was_sent_before_it(alice: Peer, bob: Peer, mode: Mode) -> None:
    here, there = await pair(alice, bob, mode)
    for number in range(1000):
        await here.send(b"%d" % number)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(here.close())
        received = [message async for message in there]
    assert received == [b"%d" % number for number in range(1000)]
    with pytest.raises(SessionClosed):
        await here.send(b"late")
    with pytest.raises(SessionClosed):
        await there.receive()


@MODES
async def test_a_reader_that_stops_stops_the_sender(
    relay: RelayServer, alice: Peer, mode: Mode
) -> None:
    config = PeerConfig(session=SessionSettings(window=100_000))
    async with Peer(Identity.generate(), relay.url, config=config) as bob:
        here, there = await pair(alice, bob, mode)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < 11:
                await here.send(bytes(10_000))
                sent += 1

        sending = asyncio.create_task(send())
        async with asyncio.timeout(60):
            while sent < 10 or there.welcome(()).received < 10:
                await asyncio.sleep(0)
        # All that was sent has arrived, and what came back after it gives no room.
        await there.send(b"no room")
        assert await here.receive() == b"no room"
        assert (sent, sending.done()) == (10, False)
        for _ in range(11):
            assert await there.receive() == bytes(10_000)
        await sending
        await asyncio.wait_for(here.send(b"room again"), 60)
        assert await there.receive() == b"room again"
        await here.close()


async def test_abort_tells_the_other_side(alice: Peer, bob: Peer) -> None:
    here, there = await pair(alice, bob, Mode.P2P)
    here.abort("enough")
    with pytest.raises(SessionLost, match="enough"):
        await there.receive()
    with pytest.raises(SessionLost):
        await here.send(b"x")


async def test_another_key_at_the_address_is_named_and_never_a_session(
    alice: Peer, bob: Peer
) -> None:
    alice.listen("chat")
    expected = Identity.generate().guid
    endpoint = Endpoint("127.0.0.1", alice.port)
    hello = PathHello(b"x" * 16, "chat", Mode.P2P)
    with pytest.raises(WrongIdentity) as caught:
        await dial_direct(endpoint, expected, hello, Paths(bob.identity), 5)
    assert expected in str(caught.value)
    assert alice.guid in str(caught.value)


async def test_a_session_that_was_not_announced_is_rejected(alice: Peer, bob: Peer) -> None:
    alice.listen("chat")
    endpoint = Endpoint("127.0.0.1", alice.port)
    for mode, resume in ((Mode.COMBINED, False), (Mode.CENTRAL, False), (Mode.P2P, True)):
        hello = PathHello(b"x" * 16, "chat", mode, resume=resume)
        with pytest.raises(RoamRelayError, match="session"):
            await dial_direct(
                endpoint, alice.guid, lambda path, hello=hello: hello, Paths(bob.identity), 5
            )


async def test_garbage_at_the_direct_port_harms_nobody(alice: Peer, bob: Peer) -> None:
    here, there = await pair(alice, bob, Mode.P2P)
    reader, writer = await asyncio.open_connection("127.0.0.1", alice.port)
    writer.write(os.urandom(5000))
    with contextlib.suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(-1), 60)
    writer.close()
    await here.send(b"still here")
    assert await there.receive() == b"still here"


async def test_the_control_connection_comes_back_and_sessions_do_not_notice(
    relay: RelayServer, alice: Peer, bob: Peer
) -> None:
    here, there = await pair(alice, bob, Mode.P2P)
    for connection in list(relay.connections):
        connection.abort("test")
    await alice.published()
    await here.send(b"undisturbed")
    assert await there.receive() == b"undisturbed"
    await bob.connect(alice.guid, "chat")


async def test_config_chooses_the_mode(relay: RelayServer, alice: Peer) -> None:
    config = PeerConfig(
        mode=Mode.P2P, services={"mail": Mode.CENTRAL}, guids={alice.guid: Mode.COMBINED}
    )
    assert config.mode_for("x", "chat") is Mode.P2P
    assert config.mode_for("x", "mail") is Mode.CENTRAL
    assert config.mode_for(alice.guid, "mail") is Mode.COMBINED
    alice.listen("mail")
    await alice.published()
    async with Peer(Identity.generate(), relay.url, config=config) as bob:
        assert (await bob.connect(alice.guid, "mail")).mode is Mode.COMBINED
        assert (await bob.connect(alice.guid, "mail", mode="p2p")).mode is Mode.P2P


async def test_locate(alice: Peer, bob: Peer) -> None:
    alice.listen("chat")
    await alice.published()
    found = await bob.locate(alice.guid, "chat")
    assert [entry.host for entry in found.entries] == ["127.0.0.1"]
    assert found.dropped == ()


async def test_listen_refuses_what_cannot_be(alice: Peer) -> None:
    alice.listen("chat")
    for service in ("chat", "Chat", "", "a" * 64, "-x"):
        with pytest.raises(ValueError, match=r"service|offered"):
            alice.listen(service)
    with pytest.raises(ValueError, match="disclose"):
        alice.listen("mail", disclose="sometimes")


@MODES
async def test_a_file_arrives_whole(alice: Peer, bob: Peer, mode: Mode, tmp_path: Path) -> None:
    here, there = await pair(alice, bob, mode)
    source = tmp_path / "photo.jpg"
    source.write_bytes(os.urandom(3_000_000))
    seen: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(
            receive_file(there, Parts(tmp_path / "in"), lambda done, size: seen.append(done))
        )
        sent = await send_file(here, source, lambda done, size: None)
    stored = receiving.result()
    content = stored.path.read_bytes()
    assert sent.sha256 == stored.sha256 == hashlib.sha256(content).hexdigest()
    assert seen[-1] == 3_000_000
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["photo.jpg"]


async def test_a_file_that_cannot_be_stored_is_refused(
    alice: Peer, bob: Peer, tmp_path: Path
) -> None:
    here, there = await pair(alice, bob, Mode.P2P)
    source = tmp_path / "a"
    source.write_bytes(b"x" * 10)
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")
    async with asyncio.TaskGroup() as tasks:

        async def receive() -> None:
            with pytest.raises(TransferFailed, match="cannot store"):
                await receive_file(there, Parts(blocked), lambda done, size: None)

        tasks.create_task(receive())
        with pytest.raises(TransferFailed, match="cannot store"):
            await send_file(here, source, lambda done, size: None)


async def test_many_sessions_at_once_cross_nothing_and_leave_nothing() -> None:
    process = psutil.Process()
    before_tasks = asyncio.all_tasks()
    before = process.num_fds()
    config = RelayConfig(port=0, pending_requests=500, ticket_lifetime=120.0)
    async with RelayServer(config) as relay:
        # So many handshakes at once may take long on a busy machine, and nothing is to be
        # given up meanwhile.
        patient = PeerConfig(
            relay=relay.url,
            path_timeout=120.0,
            request_timeout=60.0,
            session=SessionSettings(silence_limit=120.0),
            fallback=False,
        )
        async with (
            Peer(Identity.generate(), config=patient) as alice,
            Peer(Identity.generate(), config=patient) as bob,
        ):
            listener = alice.listen("chat")
            await alice.published()

            async def echo(session: Session) -> None:
                async for message in session:
                    await session.send(message)

            async def serve() -> None:
                async with asyncio.TaskGroup() as serving:
                    async for session in listener:
                        serving.create_task(echo(session))

            async def opened(mode: Mode) -> Session:
                """Connect; again, as is said, where more planes of one peer would wait than may."""
                while True:
                    try:
                        return await bob.connect(alice.guid, "chat", mode=mode, timeout=60)
                    except LimitExceeded as full:
                        await asyncio.sleep(full.retry_after or 1.0)

            async def talk(number: int) -> None:
                async with await opened(list(Mode)[number % 4]) as session:
                    for turn in range(5):
                        message = b"%d %d" % (number, turn)
                        await session.send(message)
                        assert await session.receive() == message

            async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(serve())
                async with asyncio.TaskGroup() as talking:
                    for number in range(scale.of(80, 200)):
                        talking.create_task(talk(number))
                listener.close()
                await serving
            async with asyncio.timeout(60):  # The last word of each may still be on its way.
                while rooms(alice).sessions.live or rooms(bob).sessions.live:
                    await asyncio.sleep(0.01)
        while relay.planes.live or relay.connections:
            await asyncio.sleep(0)
    while asyncio.all_tasks() != before_tasks:
        await asyncio.sleep(0)
    assert process.num_fds() == before


async def test_all_endpoints_dead_lists_what_was_tried(alice: Peer, bob: Peer) -> None:
    alice.listen("chat")
    await alice.published()
    rooms(alice).direct.close()
    with pytest.raises(PathFailed, match=r"127\.0\.0\.1"):
        await bob.connect(alice.guid, "chat", mode="p2p")


async def test_another_program_s_service_is_found_and_not_opened(alice: Peer, bob: Peer) -> None:
    async with alice.expose("ssh", 22) as listener:
        await alice.published()
        found = await bob.locate(alice.guid, "ssh")
        assert {entry.port for entry in found.entries} == {22}
        with pytest.raises(Refused, match="another program's"):
            await bob.connect(alice.guid, "ssh", mode="central")
        with pytest.raises(ValueError, match="TCP port"):
            alice.expose("http", 0)
        with pytest.raises(ValueError, match="already"):
            alice.listen("ssh")
    assert listener.port == 22


async def test_leaving_waits_for_a_clean_close_as_long_as_it_is_told(
    relay: RelayServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PeerConfig().close_timeout == 1.5

    async def never(self: Session, timeout: float) -> None:
        await asyncio.sleep(timeout)  # It lets the time pass that there is.
        raise SessionLost("not answered")

    patience: list[float] = []
    paths_close = Paths.close

    async def close(self: Paths, seconds: float) -> None:
        patience.append(seconds)
        await paths_close(self, seconds)

    listener = alice.listen("chat")
    await alice.published()
    config = PeerConfig(close_timeout=0.05)
    async with asyncio.timeout(60):
        async with Peer(Identity.generate(), relay.url, config=config) as bob:
            await bob.connect(alice.guid, "chat")
            session = await anext(listener)
            monkeypatch.setattr(Session, "close", never)
            monkeypatch.setattr(Paths, "close", close)
    monkeypatch.undo()
    assert patience == [0.2], "the paths have a last word, and no time of their own"
    with pytest.raises(SessionLost, match="the peer is closed"):
        await session.receive()
