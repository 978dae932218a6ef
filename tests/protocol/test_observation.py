"""The question at a relay's second port, and its answer."""

import pytest

from protocol.endpoint import Endpoint
from protocol.errors import ProtocolViolation
from protocol.observation import SIZE, answer_to, question, read_answer

RANDOM = bytes(range(100, 120))
ASKED = question(RANDOM)


@pytest.mark.parametrize(
    ("host", "port"), [("198.51.100.7", 4000), ("2001:db8::7", 65_535), ("127.0.0.1", 1)]
)
def test_an_answer_says_where(host: str, port: int) -> None:
    answer = answer_to(ASKED, host, port)
    assert answer is not None
    assert len(ASKED) == len(answer) == SIZE, "nobody gets more than was sent"
    assert read_answer(ASKED, answer) == Endpoint(host, port)
    assert read_answer(ASKED, answer_to(ASKED, "::ffff:1.2.3.4", 5) or b"").host == "1.2.3.4"


def test_no_address_stands_in_it_that_a_router_could_rewrite() -> None:
    answer = answer_to(ASKED, "198.51.100.7", 4000) or b""
    assert bytes([198, 51, 100, 7]) not in answer
    assert (4000).to_bytes(2, "big") not in answer


@pytest.mark.parametrize(
    "asked", [b"", ASKED[:-1], ASKED + b"x", b"GET / HTTP/1.1\r\n".ljust(SIZE), bytes(SIZE)]
)
def test_what_is_no_question_has_no_answer(asked: bytes) -> None:
    assert answer_to(asked, "198.51.100.7", 4000) is None


def test_what_does_not_answer_this_question_is_refused() -> None:
    answer = answer_to(ASKED, "198.51.100.7", 4000) or b""
    other = question(bytes(20))
    wrong = (b"", answer[:-1], answer + b"x", ASKED, bytes(SIZE), answer_to(other, "1.2.3.4", 5))
    for one in wrong:
        with pytest.raises(ProtocolViolation):
            read_answer(ASKED, one or b"")
    for host, port in (("0.0.0.0", 1), ("224.0.0.1", 1), ("198.51.100.7", 0)):
        with pytest.raises(ProtocolViolation):
            read_answer(ASKED, answer_to(ASKED, host, port) or b"")
