"""A nats-server that is there and keeps nothing, as after a full disk, is noticed by what is put
into it; tests/cluster/test_full_disk.py has a real one.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import Identity
from relay.cluster import Bucket, jetstream
from relay.cluster.jetstream import StreamAway
from relay.cluster.zone import ZONE
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, NatsServer, joined, nats_server, node
from tests.cluster.test_letters import JETSTREAM
from tests.relay.dns.asking import ALICE


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path, JETSTREAM.format(tmp_path / "js")) as server:
        yield server


class Heard:
    """Who follows a bucket."""

    def __init__(self) -> None:
        self.all = asyncio.Event()
        self.something = asyncio.Event()

    def opened(self, last: int) -> None: ...

    def hear(self, key: str, revision: int, value: bytes | None) -> None:
        self.something.set()

    def hear_foreign(self, key: str, revision: int) -> None: ...

    def whole(self) -> None:
        self.all.set()

    def lost(self, reason: str, *, missing: bool) -> None: ...


async def test_what_is_put_and_not_answered_shows_that_nothing_is_kept(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = node("a", nats, os.urandom(4).hex())
    async with asyncio.timeout(TIMEOUT), RelayServer(config, Identity.generate()) as relay:
        await joined(relay, nodes=1)
        cluster = relay.cluster
        assert cluster is not None
        bucket = cluster._keep(Bucket(config, cluster.seal, ZONE))
        heard = Heard()
        serving = asyncio.create_task(bucket.serve(heard))
        await heard.all.wait()
        await bucket.put(ALICE.guid, b"before")
        # What comes while an answer is waited for shows that it keeps something.
        await heard.something.wait()
        assert not cluster.is_stuck
        monkeypatch.setattr(jetstream, "ANSWER", 0.3)
        nats.stand_still()
        try:
            with pytest.raises(StreamAway):
                await bucket.put(ALICE.guid, b"unanswered")
            assert cluster.is_stuck
        finally:
            nats.go_on()
        monkeypatch.setattr(jetstream, "ANSWER", TIMEOUT)
        await bucket.put(ALICE.guid, b"kept")
        assert not cluster.is_stuck
        serving.cancel()
        await asyncio.wait((serving,))
