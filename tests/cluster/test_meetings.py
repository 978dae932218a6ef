"""Two sides of a meeting at different nodes: each is told where its own node sees the other one."""

import pytest

from protocol.features import OFFER
from protocol.messages import (
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from tests.cluster.nats import NatsServer, cluster, known
from tests.relay.broker.test_broker import SESSION, naming

NOWHERE = ("", 0)


@pytest.mark.parametrize(
    ("mode", "features", "entries", "told"),
    [
        (Mode.AUTO, (OFFER,), True, True),
        (Mode.COMBINED, (OFFER,), True, True),
        (Mode.CENTRAL, (OFFER,), True, False),
        (Mode.AUTO, (), True, False),
        (Mode.AUTO, (OFFER,), False, False),
    ],
)
async def test_offers_pass_between_nodes_with_where_each_side_is_seen(
    nats: NatsServer, mode: Mode, features: tuple[str, ...], entries: bool, told: bool
) -> None:
    async with (
        cluster(nats, "a", "b") as (a, b),
        naming(a.url, *features) as alice,
        naming(b.url, OFFER) as bob,
    ):
        await known(alice.identity.guid, "a", b)
        await known(bob.identity.guid, "b", a)
        seen = {
            one: one.writer.get_extra_info("sockname")[:2] if told else NOWHERE
            for one in (alice, bob)
        }
        own = {one: (one.entry("chat", 1),) if entries else () for one in (alice, bob)}
        alice.send(
            ServiceRequestTo(
                1, bob.identity.guid, "chat", mode, SESSION, own[alice], 20.0, offer=b"offer"
            )
        )
        asked = await bob.expect(ServiceRequestFrom)
        assert (asked.observed_host, asked.observed_port) == seen[alice]
        assert asked.offer == (b"offer" if features else b"")
        accepted = ServiceAnswer(asked.request, Verdict.ACCEPTED, "", own[bob], offer=b"answer")
        bob.send(accepted)
        response = await alice.expect(ServiceResponse)
        assert (response.observed_host, response.observed_port) == seen[bob]
        assert response.offer == (b"answer" if features else b"")
