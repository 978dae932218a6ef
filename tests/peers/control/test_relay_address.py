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
        ordered = in_srv_order([Record(1, 1), Record(0, 1), Record(0, 9), Record(0, 0)], rng.random)
        assert ordered[-1].priority == 1
        heavy += ordered[0].weight == 9
    assert 1700 < heavy < 1900
