"""Every endpoint of a service tried once, and which one a session would take."""

import asyncio

from peers import Identity, Peer, PeerConfig
from peers.choice import clearly_better
from relay.server import RelayServer
from tests.support.rooms import rooms


async def test_a_survey_tries_every_endpoint_once(relay: RelayServer, bob: Peer) -> None:
    config = PeerConfig(relay=relay.url, advertise=("127.0.62.1",))
    async with Peer(Identity.generate(), config=config) as alice:
        alice.listen("chat")
        await alice.published()
        async with asyncio.timeout(10):
            while len((found := await bob.locate(alice.guid, "chat")).entries) < 2:
                await asyncio.sleep(0.02)
        surveyed = await bob.survey(found)
        first, second = (one.round_trip for one in surveyed)
        assert first is not None
        assert second is not None
        # By what was measured: both are this very host, and a busy one may take long for either.
        assert surveyed[1].chosen is clearly_better(second, first)
        assert surveyed[0].chosen is not surveyed[1].chosen
        assert rooms(alice).sessions.live == [], "nothing is said to the application"
        rooms(alice).direct.close()
        surveyed = await bob.survey(found)
        assert not any(one.chosen for one in surveyed)
        assert all("127.0." in one.reason for one in surveyed)
