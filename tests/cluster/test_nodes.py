"""`relay serve --nodes`: several processes of one machine as one relay, and what ends any of them.

One relay serves all tests here but those that end it: it heals.
"""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import tomllib
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.update
import psutil
import pytest

from peers import Identity, Mode, Peer
from protocol.codec import encode_location
from protocol.errors import Code
from protocol.mail import (
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterService,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
)
from protocol.messages import Disclosure, Error
from relay.dns import DnsKeys
from relay.operator import (
    Allow,
    Answer,
    Asked,
    Ban,
    Done,
    OperatorError,
    Peers,
    PeersShown,
    Status,
    StatusShown,
    Top,
    TopShown,
)
from relay.operator import ask as ask_at
from tests.cluster.test_failover import numbered
from tests.relay.client import Client, client, registered
from tests.relay.dashboard.test_routes import getting
from tests.relay.dns.asking import ZONE
from tests.relay.mailbox.test_on_sockets import PREKEY, leave, named
from tests.relay.nodes.test_dashboard import Looking
from tests.support import processes
from tests.support.ports import free_port
from tests.support.readers import read_line

TIMEOUT = 120.0
NODES = ("node-1", "node-2")
ANYONE = Disclosure.ANYONE


LATER = "what has changed here needs a restart"
CONFIG = """admin_host = "127.0.0.1"
admin_port = 0
[dns]
zone = "peers.example.org"
port = {}
addresses = "127.0.0.1"
"""


@dataclass(frozen=True)
class Fleet:
    url: str
    state: Path
    process: subprocess.Popen[str]

    async def ask(self, asked: Asked, node: str = "") -> Answer:
        """Ask the relay, or one of its processes."""
        folder = self.state / "nodes" / node if node else self.state
        return await ask_at(str(folder / "operator.sock"), asked)

    async def status(self) -> StatusShown:
        answer = await self.ask(Status())
        assert isinstance(answer, StatusShown)
        return answer

    async def metric(self, node: str, sample: str) -> float:
        """Return what a process says of itself; 0 where it says nothing."""
        answer = await self.ask(Status(), node)
        assert isinstance(answer, StatusShown)
        url = f"{answer.admin_urls[0]}/metrics"
        text = await asyncio.to_thread(
            lambda: urllib.request.urlopen(url, timeout=30).read().decode()
        )
        found = [line for line in text.splitlines() if line.startswith(f"{sample} ")]
        return float(found[0].split()[-1]) if found else 0.0

    async def home(self, guid: str) -> str:
        """Return the node that a peer is at; empty: at none."""
        for node in NODES:
            with contextlib.suppress(OperatorError):
                answer = await self.ask(Peers(), node)
                if isinstance(answer, PeersShown) and guid in {one.guid for one in answer.peers}:
                    return node
        return ""

    def pid(self, node: str) -> int:
        """Return the process that has a node's door."""
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(self.state / "nodes" / node / "operator.sock"))
            return int(
                struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            )

    async def whole(self) -> None:
        """Wait until each process answers, and knows that the other one is there."""
        async with asyncio.timeout(TIMEOUT):
            while not all(one.is_here for one in (await self.status()).nodes):
                await asyncio.sleep(0.05)

    async def elsewhere(self, stack: contextlib.AsyncExitStack, guid: str) -> Peer:
        """Return a peer that is at the node where another one is not."""
        home = await self.home(guid)
        for _ in range(40):
            one = await stack.enter_async_context(Peer(Identity.generate(), self.url))
            if await self.home(one.guid) not in ("", home):
                return one
        raise AssertionError("forty connections came to one process")


@contextlib.contextmanager
def fleet(folder: Path, *flags: str) -> Iterator[Fleet]:
    flags = ("--nodes", "2", "--state", str(folder / "state"), "--drain-timeout", "0", *flags)
    with processes.relay(folder, *flags) as (url, process):
        yield Fleet(url, folder / "state", process)


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """Let what is started meanwhile have fewer descriptors than it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("nodes")
    port = free_port()
    (folder / "relay.toml").write_text(CONFIG.format(port))
    with contextlib.ExitStack() as stack:
        with few_descriptors():
            relay = fleet(folder, "--config", str(folder / "relay.toml"))
            running = stack.enter_context(relay)
        yield running
        left = children(running)
        running.process.terminate()
        assert running.process.wait(60) == 0, "it has drained"
        _, alive = psutil.wait_procs(left, 60)
        assert not alive


@contextlib.asynccontextmanager
async def pair(relay: Fleet) -> AsyncIterator[tuple[Peer, Peer]]:
    """Open two peers that are at different processes."""
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(TIMEOUT):
        await relay.whole()
        alice = await stack.enter_async_context(Peer(Identity.generate(), relay.url))
        yield alice, await relay.elsewhere(stack, alice.guid)


def children(relay: Fleet) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(relay.process.pid).children(recursive=True)
    return found


def nats_of(relay: Fleet) -> psutil.Process:
    (found,) = (one for one in children(relay) if "nats-server" in one.name())
    return found


async def test_every_mode_between_two_processes(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        listener = alice.listen("chat")
        for mode in Mode:
            here = await bob.connect(alice.guid, "chat", mode=mode, wait=True)
            there = await anext(listener)
            await asyncio.gather(numbered(here, there, 0, 20), numbered(there, here, 0, 20))
            await here.close()


ANSWERED = 'roam_relay_dns_total{answer="NOERROR",transport="udp"}'


async def in_zone(
    shared: Fleet, name: str, kind: str, answers: Callable[[list[str]], bool]
) -> None:
    """Ask from one socket after the other until both processes have answered, and the last forty
    answers were so."""
    port = tomllib.loads((shared.state.parent / "relay.toml").read_text())["dns"]["port"]
    before = [await shared.metric(node, ANSWERED) for node in NODES]
    good = 0
    async with asyncio.timeout(TIMEOUT):
        while good < 40 or [
            True
            for node, count in zip(NODES, before, strict=True)
            if await shared.metric(node, ANSWERED) == count
        ]:
            query = dns.message.make_query(name, kind)
            with contextlib.suppress(dns.exception.Timeout):
                said = await dns.asyncquery.udp(query, "127.0.0.1", 5, port)
                found = sorted(one.to_text() for rrset in said.answer for one in rrset)
                good = good + 1 if answers(found) else 0


async def registered_by_update(shared: Fleet, guid: str) -> str:
    """Register a name below that of a peer; return it."""
    identity = Identity.load(shared.state / "relay.key")
    config = tomllib.loads((shared.state.parent / "relay.toml").read_text())
    message = dns.update.UpdateMessage(f"{ZONE}.")
    message.use_tsig(DnsKeys(identity, ZONE).key(guid))
    name = f"more.{guid}.{ZONE}."
    message.add(name, 30, "A", "192.0.2.1")
    message.replace(f"{guid}.{ZONE}.", 30, "TXT", '"roam-relay/1" "seq=4000000000000000000"')
    said = await dns.asyncquery.tcp(message, "127.0.0.1", 60, config["dns"]["port"])
    assert said.rcode() == dns.rcode.NOERROR
    return name


async def test_both_processes_answer_for_one_zone(shared: Fleet) -> None:
    async with pair(shared) as (alice, _):
        alice.listen("chat")
        await alice.published()
        await in_zone(shared, f"{alice.guid}.{ZONE}.", "A", lambda said: said == ["127.0.0.1"])
        # It goes to either of them, and is on the disk of NATS.
        more = await registered_by_update(shared, alice.guid)
        await in_zone(shared, more, "A", lambda said: said == ["192.0.2.1"])


@pytest.mark.nightly
async def test_what_updates_have_registered_outlives_any_process(shared: Fleet) -> None:
    await shared.whole()
    more = await registered_by_update(shared, Identity.generate().guid)
    for end in (lambda: os.kill(shared.pid("node-1"), signal.SIGKILL), nats_of(shared).kill):
        end()
        await shared.whole()
        await in_zone(shared, more, "A", lambda said: said == ["192.0.2.1"])


GIVEN = 'roam_relay_cluster_total{event="leg given"}'


async def test_a_leg_comes_to_its_plane_wherever_it_has_come(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        listener = alice.listen("chat")
        while not [one for one in NODES if await shared.metric(one, GIVEN)]:
            here = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL, wait=True)
            there = await anext(listener)
            await asyncio.gather(numbered(here, there, 0, 20), numbered(there, here, 0, 20))
            await here.close()
        for node in NODES:
            assert not await shared.metric(node, 'roam_relay_plane_bytes_total{way="detour"}')


@pytest.mark.nightly
async def test_a_leg_is_given_to_a_process_that_dies(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        listener = alice.listen("chat")
        here = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL, wait=True)
        there = await anext(listener)
        await asyncio.gather(numbered(here, there, 0, 50), numbered(there, here, 0, 50))
        node = await shared.home(alice.guid)
        (other,) = set(NODES) - {node}
        before, given = shared.pid(node), await shared.metric(other, GIVEN)
        os.kill(before, signal.SIGSTOP)
        sending = asyncio.gather(numbered(here, there, 50, 100), numbered(there, here, 50, 100))
        try:
            # Both look for another plane; a leg that comes to the other process is given on.
            while await shared.metric(other, GIVEN) == given and not sending.done():
                await asyncio.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(before, signal.SIGKILL)
        await sending
        await here.close()
        await shared.whole()


async def test_a_process_is_killed_and_nothing_is_lost(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        listener = alice.listen("chat")
        here = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL, wait=True)
        there = await anext(listener)
        await asyncio.gather(numbered(here, there, 0, 100), numbered(there, here, 0, 100))
        node = await shared.home(alice.guid)
        before = shared.pid(node)
        os.kill(before, signal.SIGKILL)
        await asyncio.gather(numbered(here, there, 100, 100), numbered(there, here, 100, 100))
        await here.close()
        await shared.whole()
        assert shared.pid(node) != before


async def test_nats_is_killed_and_all_is_well_again(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        listener = alice.listen("chat")
        before = nats_of(shared)
        here = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL, wait=True)
        there = await anext(listener)
        before.kill()
        await asyncio.gather(numbered(here, there, 0, 100), numbered(there, here, 0, 100))
        await here.close()
        while True:
            with contextlib.suppress(ValueError):
                if nats_of(shared).pid != before.pid:
                    break
            await asyncio.sleep(0.05)
        again = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL, wait=True)
        await again.close()


async def test_what_the_operator_says_holds_at_each_process(shared: Fleet) -> None:
    async with asyncio.timeout(TIMEOUT):
        await shared.whole()
        carol = Identity.generate()
        async with registered(shared.url, identity=carol) as there:
            node = await shared.home(carol.guid)
            (other,) = set(NODES) - {node}
            # Said to the process where it is not: the other one reads it in the book.
            await shared.ask(Ban(carol.guid), other)
            assert (await there.expect(Error)).code is Code.NOT_ADMITTED
        for _ in range(6):
            async with client(shared.url, carol) as again:
                await again.hello()
                again.send(again.signed_register(encode_location(again.record("chat"))))
                assert (await again.expect(Error)).code is Code.NOT_ADMITTED


async def test_status_and_metrics_are_of_all(shared: Fleet) -> None:
    async with pair(shared):
        status = await shared.status()
        assert [one.node for one in status.nodes] == list(NODES)
        assert status.registered == sum(one.registered for one in status.nodes) >= 2
        url = f"{status.admin_urls[0]}/metrics"
        wanted = [f'roam_relay_cluster_now{{node="{node}",state="nodes"}} 2.0' for node in NODES]
        text = ""
        # One that was away a moment ago hears of the other one with its next beat.
        while not all(one in text for one in wanted):
            text = await asyncio.to_thread(
                lambda: urllib.request.urlopen(url, timeout=30).read().decode()
            )


async def test_one_that_hangs_is_named_and_the_others_are_shown(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        there = {await shared.home(peer.guid): peer.guid for peer in (alice, bob)}

        stopped = shared.pid("node-1")
        os.kill(stopped, signal.SIGSTOP)
        try:
            # At once, and not by commands: one that hangs for 20 s is killed.
            listed, status, top, banned = await asyncio.gather(
                *map(shared.ask, (Peers(), Status(), Top(), Ban("192.0.2.0/24")))
            )
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert isinstance(listed, PeersShown)
        guids = {one.guid for one in listed.peers}
        assert there["node-2"] in guids
        assert there["node-1"] not in guids
        assert listed.silent == ("node-1",)
        assert isinstance(status, StatusShown)
        assert [one.is_here for one in status.nodes] == [False, True]
        assert isinstance(top, TopShown)
        assert (top.silent, top.registered > 0) == (("node-1",), True)
        assert isinstance(banned, Done)
        assert banned.said == "banned; node-1 did not answer: say it again later"
        await shared.ask(Allow("192.0.2.0/24"))


async def test_the_dashboard_is_of_all_and_says_who_was_started_anew(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        (url,) = (await shared.status()).admin_urls
        listener = alice.listen("chat")
        here = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL, wait=True)
        there = await anext(listener)
        homes = {peer.guid[:12]: await shared.home(peer.guid) for peer in (alice, bob)}
        async with getting(f"{url}/dashboard/events") as answer:
            looking = Looking(answer)
            # Its peers are told with the next look of the node that has them.
            while (
                not homes.items()
                <= {one["id"]: one["node"] for one in looking.rows.values()}.items()
            ):
                await looking.until(node_1="serves", node_2="serves")
            await numbered(here, there, 0, 20)
            while not looking.now["planes"]:
                await looking.until(node_1="serves", node_2="serves")
            (plane,) = looking.now["planes"]
            assert (plane["caller"], plane["callee"]) == (bob.guid[:12], alice.guid[:12])
            assert plane["node"] in NODES
            home = await shared.home(alice.guid)
            os.kill(shared.pid(home), signal.SIGKILL)
            while ("node came", home) not in looking.news:
                await looking.until(node_1="serves", node_2="serves")
            assert ("node left", home) in looking.news
        await here.close()


async def test_letters_outlive_nats_and_any_process(shared: Fleet) -> None:
    bob = Identity.generate()
    async with asyncio.timeout(TIMEOUT):
        await shared.whole()
        async with named(shared.url, bob) as there:
            await kept(there, MailboxUpdate(1, (LetterService("chat", ANYONE),), PREKEY))
        async with named(shared.url) as alice:
            for name in (1, 2):
                await kept(alice, leave(there, name))
        nats_of(shared).kill()
        os.kill(shared.pid(NODES[0]), signal.SIGKILL)
        await shared.whole()
        async with named(shared.url) as alice:
            await kept(alice, leave(there, 3))
        async with named(shared.url, bob) as there:
            there.send(LetterWindow(8))
            found = [await there.expect(Letter) for _ in range(3)]
            assert [int.from_bytes(one.id, "big") for one in found] == [1, 2, 3]
            there.send(LetterDone(tuple(one.number for one in found)))
            while await kept(there, MailboxUpdate(2)):
                pass


async def kept(one: Client, asked: MailboxUpdate | LetterLeave) -> int:
    """Ask until it is done: a process may have lost its way to the others a moment ago. Return how
    many letters wait for who asks."""
    while True:
        one.send(asked)
        answer: MailboxState | LetterResponse
        if isinstance(asked, MailboxUpdate):
            answer = await one.expect(MailboxState)
        else:
            answer = await one.expect(LetterResponse)
        if answer.code is None:
            return answer.letters if isinstance(answer, MailboxState) else 0
        assert answer.code in (Code.CLUSTER_UNAVAILABLE, Code.LETTER_REFUSED), answer
        await asyncio.sleep(0.05)


async def test_a_look_up_answers_alike_at_each_process(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        for peer in (alice, bob):
            peer.listen("open")
            peer.listen("hidden", disclose="nobody")
            await peer.published()

        def look(guid: str, service: str) -> tuple[int, dict[str, object]]:
            url = f"{shared.url}/v1/peers/{guid}/services/{service}"
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.loads(error.read())

        async def looked(guid: str, service: str) -> tuple[int, dict[str, object]]:
            """Look up; again while a process that has just come does not know who is where."""
            while (found := await asyncio.to_thread(look, guid, service))[0] == 503:
                await asyncio.sleep(0.1)
            return found

        # Each is a connection of its own, that comes to any of both processes; and of the two
        # peers each process has one.
        for _ in range(6):
            for peer in (alice, bob):
                status, said = await looked(peer.guid, "open")
                assert (status, said["guid"], said["state"]) == (200, peer.guid, "online")
                endpoints = said["endpoints"]
                assert isinstance(endpoints, list)
                assert {one["port"] for one in endpoints} == {peer.port}
                for service in ("hidden", "none"):
                    status, said = await looked(peer.guid, service)
                    assert (status, said["code"]) == (404, "unknown_service")


def test_all_take_the_descriptors_that_they_may_have(shared: Fleet) -> None:
    for process in (psutil.Process(shared.process.pid), *children(shared)):
        soft, hard = process.rlimit(resource.RLIMIT_NOFILE)
        assert soft == hard


async def test_a_reload_says_once_what_needs_a_restart(shared: Fleet) -> None:
    async with asyncio.timeout(TIMEOUT):
        await shared.whole()
        file = shared.state.parent / "relay.toml"
        before_it = file.read_text()
        file.write_text(f'host = "127.0.0.2"\nmax_connections = 100\n{before_it}')
        shared.process.send_signal(signal.SIGHUP)
        said: list[dict[str, object]] = []
        wanted = {"reloaded": len(NODES), LATER: 1}
        while any(
            [one["event"] for one in said].count(event) < count for event, count in wanted.items()
        ):
            assert shared.process.stderr is not None
            said.append(json.loads(await read_line(shared.process.stderr.fileno())))
        file.write_text(before_it)
        assert {one["node"] for one in said} <= {"supervisor", *NODES}, "each says of whom"
        later = [one for one in said if one["event"] == LATER]
        assert [(one["node"], one["keys"]) for one in later] == [("supervisor", ["host"])]
        # One that is started anew is where it was.
        node = NODES[0]
        before = shared.pid(node)
        os.kill(before, signal.SIGKILL)
        await shared.whole()
        assert shared.pid(node) != before
        status = await shared.ask(Status(), node)
        assert isinstance(status, StatusShown)
        assert status.urls == (shared.url,)


@pytest.mark.nightly
async def test_a_process_that_hangs_is_started_anew(shared: Fleet) -> None:
    async with pair(shared) as (alice, bob):
        listener = alice.listen("chat")
        here = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL, wait=True)
        there = await anext(listener)
        node = await shared.home(alice.guid)
        before = psutil.Process(shared.pid(node))  # Later it may be gone already.
        before.suspend()
        await asyncio.gather(numbered(here, there, 0, 100), numbered(there, here, 0, 100))
        _, alive = await asyncio.to_thread(psutil.wait_procs, [before], 60)
        assert not alive
        await here.close()


def test_nothing_is_left_of_one_that_is_killed(tmp_path: Path) -> None:
    with fleet(tmp_path) as relay:
        left = children(relay)
        assert len(left) == 3
        left[0].suspend()  # It could not end by itself.
        relay.process.kill()
        relay.process.wait(60)
        _, alive = psutil.wait_procs(left, 60)
        assert not alive


@pytest.mark.parametrize(
    ("words", "config", "says"),
    [
        (("--nodes", "0"), "", "a number from 1 to 64, or 'auto'"),
        (("--nodes", "x"), "", "a number from 1 to 64, or 'auto'"),
        (("--nodes", "2"), '[cluster]\nnode = "a"\n', "[cluster]"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, words: tuple[str, ...], config: str, says: str
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(config)
    ended = processes.run_relay(tmp_path, "serve", "--port", "0", "--config", str(file), *words)
    assert ended.returncode in (1, 2)
    (line,) = (one for one in ended.stderr.splitlines() if one.startswith("Error: "))
    assert says in line


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ended = processes.run_relay(tmp_path, "serve", "--nodes", "2", "--port", port)
    assert ended.returncode == 1
    assert "another program listens there" in ended.stderr


def test_a_book_that_cannot_be_used_is_said_before_any_process_begins(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(0o700)
    (state / "relay.sqlite").write_bytes(b"no tables" * 1000)
    (state / "relay.sqlite").chmod(0o600)
    words = ("--nodes", "2", "--port", "0", "--state", str(state))
    ended = processes.run_relay(tmp_path, "serve", *words)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: state: cannot use the store")
