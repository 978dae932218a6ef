"""A relay that is found by the SRV records of its domain."""

import random

import dns.message
import pytest

from peers import RelayUnavailable
from peers.control.relay_address import RelayAddresses, in_srv_order
from tests.support.name_server import answered, fake


async def test_a_relay_is_found_by_its_domain_and_remembered() -> None:
    def relays(query: dns.message.Message) -> list[bytes]:
        return [
            answered(
                query,
                "SRV 5 0 8440 b.example.",
                "SRV 1 0 8441 a.example.",
                "A 192.0.2.1",
                "AAAA 2001:db8::1",
            )
        ]

    async with fake(relays) as (server, protocol):
        where = RelayAddresses("dns+https:Example.org", nameservers=[server], timeout=2.0)
        found = await where.find()
        assert [str(one) for one in found] == [
            "https://[2001:db8::1]:8441",
            "https://[2001:db8::1]:8440",
        ]
        assert {one.addresses for one in found} == {("2001:db8::1", "192.0.2.1")}, "a race of both"
        assert {one.certificate_name for one in found} == {"example.org"}
        protocol.answer = lambda query: []
        assert await where.find() == found
        with pytest.raises(RelayUnavailable, match="cannot find the relay"):
            await RelayAddresses("dns:example.org", nameservers=[server], timeout=0.3).find()
        protocol.answer = lambda query: [answered(query)]
        with pytest.raises(RelayUnavailable, match="names no relay"):
            await RelayAddresses("dns:example.org", nameservers=[server], timeout=2).find()
    with pytest.raises(RelayUnavailable, match="not a relay"):
        RelayAddresses("dns:a b")


def test_srv_records_are_tried_by_priority_and_weight() -> None:
    class Record:
        def __init__(self, priority: int, weight: int) -> None:
            self.priority, self.weight = priority, weight

    rng = random.Random(7)
    heavy = 0
    for _ in range(2000):
        ordered = in_srv_order(
            [Record(1, 1), Record(0, 1), Record(0, 9), Record(0, 0)], lambda _: rng.random()
        )
        assert ordered[-1].priority == 1
        heavy += ordered[0].weight == 9
    assert 1700 < heavy < 1900


async def test_several_relays_have_one_order_that_chance_has_made() -> None:
    text = "http://127.0.0.1:1, http://127.0.0.1:2,http://127.0.0.1:3"
    firsts = set()
    for seed in range(40):
        rng = random.Random(seed)
        where = RelayAddresses(text, rng=rng.random)
        found = await where.find()
        assert sorted(one.port for one in found) == [1, 2, 3]
        assert await where.find() == found, "all connections of a peer go the same way"
        firsts.add(found[0].port)
    assert firsts == {1, 2, 3}


@pytest.mark.parametrize(
    "text",
    ["", ",", "http://127.0.0.1:1,nowhere", "http://127.0.0.1:1,dns:example.org"]
    + [",".join(f"http://127.0.0.1:{port}" for port in range(1, 10))],
)
def test_what_is_no_list_of_relays_is_refused(text: str) -> None:
    with pytest.raises(RelayUnavailable):
        RelayAddresses(text)
