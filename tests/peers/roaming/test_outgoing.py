"""Opening a session from this side: its fallbacks and its deadline."""

import time

import pytest

from peers import Mode, PathFailed, PathKind, Peer
from relay.server import RelayServer
from tests.support.far import far


async def test_all_dead_falls_back_where_the_mode_allows(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, dead=2) as there:
        with pytest.raises(PathFailed) as failed:
            await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert all(host in str(failed.value) for host in ("127.0.42.1", "127.0.42.2"))
        session = await bob.connect(there.peer.guid, "chat", mode="combined")
        assert session.mode is Mode.AUTO
        assert session.path is not None
        assert session.path.kind is PathKind.RELAYED
        await session.close()
        for policy in ("only direct", "not relayed"):
            with pytest.raises(PathFailed):
                await bob.connect(there.peer.guid, "chat", mode="combined", policy=policy)


async def test_a_deadline_ends_the_search(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, silent=1) as there:
        began = time.monotonic()
        with pytest.raises(PathFailed, match=r"within 0\.3"):
            await bob.connect(there.peer.guid, "chat", mode="p2p", policy="within 0.3")
        assert time.monotonic() - began < bob.config.path_timeout, "what would end it else"
