"""What the dashboard of one node shows of the others."""

from tests.cluster.nats import NatsServer, cluster, known
from tests.relay.client import registered
from tests.relay.dashboard.test_routes import getting, next_event


async def test_each_node_is_shown_with_its_peers(nats: NatsServer) -> None:
    async with cluster(nats, "a", "b") as (a, b), registered(a.url, "chat") as alice:
        await known(alice.identity.guid, "a", b)
        async with getting(f"{b.url}/dashboard/events") as answer:
            name, data = "", {}
            while name != "change":
                name, data = await next_event(answer)
        assert data["now"]["present"] == 0
        b_now, a_now = data["now"]["nodes"]
        assert (b_now["name"], b_now["peers"], b_now["heard"]) == ("b", 0, None)
        assert (a_now["name"], a_now["peers"]) == ("a", 1)
        assert b_now["in"]
        assert a_now["in"]
