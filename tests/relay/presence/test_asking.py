"""What a relay says of an endpoint when it is asked, whom it meets for that, and what it tells."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from peers import Identity, Peer, PeerConfig
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import Code
from protocol.features import ENDPOINT_QUERY
from protocol.messages import EndpointQuery, EndpointResponse, Error
from relay.config import RelayConfig
from relay.presence import queries
from relay.server import RelayServer
from tests.relay.client import Client, client
from tests.relay.presence.test_proofs import victim

HERE = "127.0.0.1"


@contextlib.asynccontextmanager
async def asking(url: str, identity: Identity | None = None) -> AsyncIterator[Client]:
    """Register as somebody who has named the feature."""
    async with client(url, identity) as one:
        assert ENDPOINT_QUERY in (await one.hello(features=(ENDPOINT_QUERY,))).features
        await one.register()
        yield one


def signed(
    identity: Identity, host: str, port: int, *, service: str = "chat", phase: Phase = Phase.NEW
) -> SignedEntry:
    return sign_entry(identity, Entry(2, service, host, port, phase, 600, Provenance.INTERFACE))


async def answer(asker: Client, guid: str, entry: SignedEntry) -> tuple[bool, float]:
    """Ask; return whether the key was met, and after how many seconds."""
    began = time.monotonic()
    asker.send(EndpointQuery(1, guid, entry))
    response = await asker.expect(EndpointResponse)
    assert (response.request, response.code) == (1, None)
    return response.met, time.monotonic() - began


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.presence.proofs.ANSWERED_AFTER", 0.3)


async def test_a_key_that_is_there_is_met_for_who_asks_and_then_known(soon: None) -> None:
    """Of a peer that offers nothing, as of one that only calls."""
    config = PeerConfig(listen_hosts=("127.0.60.1",))
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as there,
        asking(relay.url) as asker,
    ):
        await there.published()
        met, _ = await answer(asker, there.guid, signed(there.identity, "127.0.60.1", there.port))
        assert met
        assert relay.metrics.proofs["proven"] == 1
        met, _ = await answer(asker, there.guid, signed(there.identity, "127.0.60.1", there.port))
        assert met
        assert relay.metrics.proofs["proven"] == 1, "known by now"


async def test_no_takes_as_long_whatever_is_there(soon: None) -> None:
    """Refused, silent, another key, not dialed, not here, not told: all are one answer."""
    config = PeerConfig(listen_hosts=("127.0.60.2",))
    async with (
        RelayServer(RelayConfig(port=0, proof_timeout=1.0)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as bystander,
        victim("127.0.60.3") as (silent, _),
        asking(relay.url) as stranger,
        asking(relay.url) as asker,
    ):
        own = stranger.identity
        entries = [
            signed(own, "127.0.60.4", 7000),  # Nobody listens.
            signed(own, "127.0.60.3", silent),
            signed(own, "127.0.60.2", bystander.port),
            signed(own, "10.1.2.3", 7000),  # No network of this relay's.
            signed(own, "127.0.60.4", 6379),
            signed(own, HERE, int(relay.url.rpartition(":")[2])),
            signed(own, "127.0.60.4", 7001, phase=Phase.LEAVING),
        ]
        times = []
        for entry in entries:
            met, seconds = await answer(asker, own.guid, entry)
            assert not met
            times.append(seconds)
        gone = Identity.generate()
        met, seconds = await answer(asker, gone.guid, signed(gone, "127.0.60.4", 7000))
        assert not met
        # Not earlier: no machine is so busy. Later, all alike.
        assert min(*times, seconds) >= 0.3


async def test_a_service_that_is_not_disclosed_to_who_asks_is_not_told_of(soon: None) -> None:
    config = PeerConfig(listen_hosts=("127.0.60.1",))
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        asking(relay.url) as friend,
        asking(relay.url) as stranger,
        Peer(Identity.generate(), relay.url, config=config) as there,
    ):
        there.listen("chat", disclose=[friend.identity.guid])
        await there.published()
        entry = signed(there.identity, "127.0.60.1", there.port)
        assert not (await answer(stranger, there.guid, entry))[0]
        assert (await answer(friend, there.guid, entry))[0]
        # Known to the relay, and still not told.
        assert not (await answer(stranger, there.guid, entry))[0]


async def test_a_peer_learns_of_itself_only_where_its_connection_comes_from(soon: None) -> None:
    """It could look itself up; and a stranger's own key tells it nothing of anybody else."""
    identity = Identity.generate()
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        RelayServer(RelayConfig(port=0)) as elsewhere,
        Peer(identity, elsewhere.url, config=PeerConfig(listen_hosts=("0.0.0.0",))) as there,
        asking(relay.url, identity) as asker,
    ):
        assert (await answer(asker, identity.guid, signed(identity, HERE, there.port)))[0]
        assert not (await answer(asker, identity.guid, signed(identity, "127.0.60.1", there.port)))[
            0
        ]
        assert relay.metrics.proofs == {"proven": 1}, "it was not even dialed"


async def test_what_the_peer_has_not_signed_is_nobodys_endpoint() -> None:
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        asking(relay.url) as owner,
        asking(relay.url) as asker,
        victim("127.0.60.5") as (port, counts),
    ):
        mine = signed(asker.identity, "127.0.60.5", port)
        asker.send(EndpointQuery(5, owner.identity.guid, mine))
        response = await asker.expect(EndpointResponse)
        assert (response.request, response.met) == (5, False)
        assert response.code is Code.BAD_SIGNATURE
        bad = signed(owner.identity, "a.test", 1)
        asker.send(EndpointQuery(6, owner.identity.guid, bad))
        assert (await asker.expect(EndpointResponse)).code is Code.BAD_MESSAGE
        assert not counts


async def test_who_has_not_named_it_gets_no_answer_of_its_kind() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, client(relay.url) as old:
        await old.register()
        old.send(EndpointQuery(1, old.identity.guid, signed(old.identity, HERE, 7000)))
        assert (await old.expect(Error)).code is Code.UNKNOWN_TYPE


async def test_a_stranger_that_asks_for_all_it_can_sign_has_few_met(
    soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two keys of one stranger: one signs, the other asks. Nobody is scanned by that."""
    monkeypatch.setattr(queries, "_PER_SECOND", 0.001)
    async with (
        RelayServer(RelayConfig(port=0, proof_timeout=0.2)) as relay,
        asking(relay.url) as owner,
        asking(relay.url) as asker,
        victim("127.0.60.6") as (port, counts),
    ):
        refused = 0
        for number in range(100):
            entry = signed(owner.identity, "127.0.60.6", port if number % 2 else 20_000 + number)
            asker.send(EndpointQuery(number, owner.identity.guid, entry))
            await asyncio.sleep(0)
        for _ in range(100):
            response = await asker.expect(EndpointResponse)
            assert not response.met
            refused += response.code is Code.LIMIT_EXCEEDED
        assert refused >= 100 - 16
        assert relay.metrics.proofs.total() <= 16
        assert len(counts) <= 2
