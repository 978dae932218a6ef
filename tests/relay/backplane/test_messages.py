"""What nodes say is read by nodes of the same cluster alone, and where it was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from protocol.identity import Identity
from protocol.messages import Mode, ServiceRequestTo, ServiceResponse
from relay.backplane import Answered, Asked, Claim, Foreign, NodeMessage, Seal, tag_of
from relay.backplane.messages import MAX_NAMED, PIECE, Beat, Bye, Came, Known, Tell, Went, pieces

IDENTITY = Identity.generate()
GUID = Identity.generate().guid
SEAL = Seal(IDENTITY)
CLAIM = Claim(GUID, 3, b"i" * 16, "b", 7, "192.0.2.1")
REQUEST = ServiceRequestTo(1, GUID, "chat", Mode.AUTO, b"s" * 16)
MESSAGES: tuple[NodeMessage, ...] = (
    Beat("b", 1, 2, ("http://b:8440",), True),
    Came("b", 1, CLAIM),
    Went("b", 1, 8, GUID, 3, b"i" * 16, 1.5, True, True, "192.0.2.1"),
    Bye("b", 1),
    Tell("b", 1),
    Known("b", 1, 2, (CLAIM,), True),
    Asked("b", 1, 9, GUID, "192.0.2.1", REQUEST, "0" * 32, "http://b:8440"),
    Answered("b", 1, 9, ServiceResponse(9, ticket="0" * 32), "c"),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_what_is_said_is_read(message: NodeMessage) -> None:
    sealed = SEAL.close("all", message)
    assert Seal(IDENTITY).open("all", sealed) == message
    with pytest.raises(Foreign, match="not sealed"):
        SEAL.open("node.a", sealed)  # Said elsewhere.
    with pytest.raises(Foreign, match="not sealed"):
        Seal(Identity.generate()).open("all", sealed)
    with pytest.raises(Foreign, match="not sealed"):
        SEAL.open("all", sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_claims_are_said_in_pieces_that_pass_nats() -> None:
    large = [structs.replace(CLAIM, serial=number, named=bytes(MAX_NAMED)) for number in range(70)]
    small = [structs.replace(CLAIM, serial=number) for number in range(70, 70 + PIECE)]
    found = list(pieces([*large, *small]))
    assert [one for piece in found for one in piece] == large + small
    assert all(len(SEAL.close("all", Known("b", 1, 2, piece, False))) < 1 << 19 for piece in found)
    assert max(map(len, found)) <= PIECE
    assert list(pieces([])) == [()]


@given(st.binary(max_size=200))
def test_what_strangers_say_is_foreign(data: bytes) -> None:
    with pytest.raises(Foreign):
        SEAL.open("all", data)


@pytest.mark.parametrize(
    "data", [b"\x81\xa4type\xa3new", b"\xc0", b"", b"\x82\xa4type\xa3bye\xa4node\xa1B"]
)
def test_another_version_says_what_is_not_known(data: bytes) -> None:
    sealed = SEAL.wrap("all", data)
    with pytest.raises(Foreign, match="cannot be read"):
        SEAL.open("all", sealed)


def test_a_node_has_a_tag_of_its_own() -> None:
    assert len(tag_of("a")) == 8
    assert tag_of("a") != tag_of("b")
    assert SEAL.origin("t", "h") != SEAL.origin("t", "i")
