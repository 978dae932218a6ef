"""What the mapping of a NAT depends on, by what was observed: RFC 4787 §4.1."""

import pytest

from peers.reach import Mapping, Observation, mapping_of
from protocol.endpoint import Endpoint
from protocol.meeting import Reflexive, hopeless

LOCAL = Endpoint("192.168.50.2", 4000)
RELAY, PORT_2 = Endpoint("203.0.113.1", 8440), Endpoint("203.0.113.1", 8441)
OTHER, OTHER_2 = Endpoint("203.0.113.2", 8440), Endpoint("203.0.113.2", 8441)
A, B, C = (Endpoint("198.51.100.7", port) for port in (4000, 4001, 4002))


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        ({}, Mapping.UNKNOWN),
        ({RELAY: LOCAL}, Mapping.NONE),
        ({RELAY: LOCAL, PORT_2: LOCAL}, Mapping.NONE),
        ({RELAY: A}, Mapping.UNKNOWN),
        ({RELAY: A, PORT_2: A}, Mapping.ENDPOINT_INDEPENDENT),
        ({RELAY: A, OTHER: A}, Mapping.ENDPOINT_INDEPENDENT),
        ({RELAY: A, PORT_2: B}, Mapping.ADDRESS_AND_PORT_DEPENDENT),
        ({RELAY: A, OTHER: B}, Mapping.ADDRESS_AND_PORT_DEPENDENT),
        ({RELAY: A, PORT_2: A, OTHER: B}, Mapping.ADDRESS_DEPENDENT),
        ({RELAY: A, PORT_2: A, OTHER: B, OTHER_2: B}, Mapping.ADDRESS_DEPENDENT),
        ({RELAY: A, PORT_2: B, OTHER: C}, Mapping.ADDRESS_AND_PORT_DEPENDENT),
        ({RELAY: LOCAL, PORT_2: A}, Mapping.ADDRESS_AND_PORT_DEPENDENT),
    ],
)
def test_what_was_observed_has_a_word(seen: dict[Endpoint, Endpoint], word: Mapping) -> None:
    assert mapping_of([Observation(LOCAL, by, at) for by, at in seen.items()]) is word


def test_who_is_seen_elsewhere_by_others_cannot_be_met() -> None:
    meets = {Mapping.UNKNOWN, Mapping.NONE, Mapping.ENDPOINT_INDEPENDENT}
    for own in Mapping:
        for other in Mapping:
            assert (hopeless(own, other) == "") is ({own, other} <= meets), (own, other)
    assert hopeless(Mapping.ADDRESS_DEPENDENT, Mapping.NONE).startswith("this side's NAT")
    assert hopeless(Mapping.NONE, Mapping.ADDRESS_DEPENDENT).startswith("the other side's NAT")


def test_a_word_that_nobody_knows_is_as_none() -> None:
    for word in ("", "full-cone", "unknown"):
        assert Reflexive("198.51.100.7", 1, mapping=word).kind is Mapping.UNKNOWN
    assert Reflexive("198.51.100.7", 1, mapping="none").kind is Mapping.NONE
