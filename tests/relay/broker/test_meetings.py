"""Where the relay sees one side is told to the other one, beside an offer, and to nobody else."""

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
from relay.server import RelayServer
from tests.relay.broker.test_broker import SESSION, naming

NOWHERE = ("", 0)


@pytest.mark.parametrize(
    ("mode", "offer", "entries", "told"),
    [
        (Mode.AUTO, b"offer", True, True),
        (Mode.COMBINED, b"offer", True, True),
        (Mode.CENTRAL, b"offer", True, False),
        (Mode.AUTO, b"", True, False),
        (Mode.AUTO, b"offer", False, False),
    ],
)
async def test_where_a_side_is_seen_is_told_beside_an_offer_to_who_has_its_entries(
    relay: RelayServer, mode: Mode, offer: bytes, entries: bool, told: bool
) -> None:
    async with naming(relay.url, OFFER) as alice, naming(relay.url, OFFER) as bob:
        seen = {
            one: one.writer.get_extra_info("sockname")[:2] if told else NOWHERE
            for one in (alice, bob)
        }
        own = {one: (one.entry("chat", 1),) if entries else () for one in (alice, bob)}
        guid = bob.identity.guid
        alice.send(ServiceRequestTo(1, guid, "chat", mode, SESSION, own[alice], 5.0, offer=offer))
        asked = await bob.expect(ServiceRequestFrom)
        assert (asked.observed_host, asked.observed_port) == seen[alice]
        accepted = ServiceAnswer(asked.request, Verdict.ACCEPTED, "", own[bob], offer=b"answer")
        bob.send(accepted)
        response = await alice.expect(ServiceResponse)
        assert (response.observed_host, response.observed_port) == seen[bob]


async def test_what_one_side_does_not_offer_is_not_told_of_it(relay: RelayServer) -> None:
    async with naming(relay.url, OFFER) as alice, naming(relay.url, OFFER) as bob:
        guid, own = bob.identity.guid, (bob.entry("chat", 1),)
        alice.send(ServiceRequestTo(1, guid, "chat", Mode.AUTO, SESSION, offer=b"offer"))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, "", own))
        response = await alice.expect(ServiceResponse)
        assert (response.offer, response.observed_host, response.observed_port) == (b"", "", 0)
