"""Strangers who make a peer dial others, counted at the victims (docs/security.md)."""

import asyncio
import contextlib

import pytest

from peers import DdnsConfig, Identity, Peer
from peers.config import Dial, PathKind
from peers.dialing import door
from peers.path import open as path_open
from peers.transport import sockets
from protocol.dns_records import entry_text
from protocol.first_bytes import FLIGHT_HEAD, MAGIC
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks import dialing
from tests.attacks.dialing import HOSTS, SESSIONS, served, victims
from tests.support import scale
from tests.support.name_server import answered, fake

KEYS = scale.of(20, 100)
RELAY = RelayConfig(host="0.0.0.0", port=0)
"""One that proves nothing on loopback: what comes to the victims comes from the peer."""


def reached(relay: RelayServer) -> str:
    return relay.url.replace("0.0.0.0", "127.0.0.1")


def parted(received: bytes) -> tuple[bytes, bytes]:
    """Return the sealed flight, which may be empty, and what stands behind it."""
    if not received.startswith(MAGIC):
        return b"", received
    end = FLIGHT_HEAD + int.from_bytes(received[FLIGHT_HEAD - 2 : FLIGHT_HEAD], "big")
    return received[:end], received[end:]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a told endpoint holds up is over soon; and a dial is one socket: where a machine is
    busy, it would be begun again beside itself, as nobody has answered yet."""
    monkeypatch.setattr(door, "_HELD", 0.3)
    monkeypatch.setattr(path_open, "_again_after", lambda round_trip: ())
    monkeypatch.setattr(sockets, "fresh_after", lambda round_trip: ())


@pytest.mark.parametrize(
    ("attack", "times"),
    [
        (dialing.over_the_relay, SESSIONS),
        (dialing.calling, 10),
        (dialing.by_hello, 10),
        (dialing.by_location, 20),
        (dialing.many_keys, KEYS),
    ],
)
async def test_a_stranger_makes_a_peer_dial_others_a_few_times(
    attack: dialing.Attack, times: int
) -> None:
    async with (
        RelayServer(RELAY) as relay,
        victims() as there,
        Peer(Identity.generate(), reached(relay), config=dialing.config()) as peer,
        served(peer),
    ):
        await attack(reached(relay), peer, there, times)
        assert 0 < there.count <= 4
        # A ClientHello, with nothing in it that a stranger has chosen: neither name nor length.
        # What may stand before it is sealed under random bytes of this peer, without a message.
        received = [parted(one) for one in there.received if one]
        hellos = [hello for _, hello in received]
        assert all(len(flight) < 400 for flight, _ in received)
        assert len({len(one) for one in hellos}) <= 1
        assert all(one[:1] == b"\x16" and b"127.0" not in one for one in hellos)
        assert sum(peer.dialing.refused.values()) > 0
        # Whoever is really there is met as ever.
        async with Peer(Identity.generate(), reached(relay), config=dialing.config()) as honest:
            session = await honest.connect(peer.guid, "chat", mode="auto")
            async with asyncio.timeout(dialing.LONG):
                await dialing.until(
                    lambda: session.path is not None and session.path.kind is PathKind.DIRECT
                )


async def test_a_server_that_dials_what_is_proven_dials_none_of_it() -> None:
    careful = dialing.config(dial=Dial.PROVEN)
    async with (
        RelayServer(RELAY) as relay,
        victims() as there,
        Peer(Identity.generate(), reached(relay), config=careful) as peer,
        served(peer),
    ):
        await dialing.over_the_relay(reached(relay), peer, there, 2)
        assert there.count == 0


async def test_a_caller_that_does_not_come_is_dialed_back_a_few_times() -> None:
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(RelayConfig(port=0)))
        there = [await stack.enter_async_context(victims("127.0.0.1")) for _ in range(8)]
        peer = Peer(Identity.generate(), relay.url, config=dialing.config())
        await stack.enter_async_context(peer)
        await stack.enter_async_context(served(peer))
        await dialing.dial_back(relay.url, peer, [one.port for one in there], SESSIONS)
        async with asyncio.timeout(dialing.LONG):
            await dialing.until(lambda: all(one.count for one in there))
        assert all(one.count <= 2 for one in there)


async def test_a_name_makes_its_callers_dial_others_a_few_times() -> None:
    stranger = Identity.generate()
    async with victims() as there:
        entries = dialing.told(stranger, there.port, *HOSTS)
        records = [f"TXT {entry_text(one)}" for one in entries]
        async with fake(lambda query: [answered(query, *records)]) as (server, _):
            names = DdnsConfig(zone="peers.example.org", server=str(server))
            async with Peer(Identity.generate(), ddns=names, config=dialing.config()) as caller:
                await dialing.by_name(caller, stranger.guid, 4)
        assert 0 < there.count <= 16
