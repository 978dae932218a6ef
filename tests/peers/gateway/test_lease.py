"""One mapped port, against routers that are played: what they are asked, and when again."""

import struct

import pytest

from peers.gateway import Lease
from peers.gateway.lease import LIFETIME, State
from peers.gateway.messages import Answer, Kind, nat_pmp_request, pcp_request, read
from protocol.endpoint import Endpoint

HERE, PORT, NONCE = "192.168.1.2", 40000, b"n" * 12
SEEN = "198.51.100.7"


def pcp_answer(
    *, nonce: bytes = NONCE, port: int = 41000, lifetime: int = LIFETIME, result: int = 0
) -> bytes:
    head = struct.pack("!BBxBII12x", 2, 129, result, lifetime, 9)
    host = bytes(10) + b"\xff\xff" + bytes([198, 51, 100, 7])
    return head + struct.pack("!12sB3xHH16s", nonce, 6, PORT, port, host)


ONLY_OLDER = struct.pack("!BBHI", 0, 129, 1, 9)
"""What a router says to PCP that knows NAT-PMP alone."""
ADDRESS = struct.pack("!BBHI4s", 0, 128, 0, 9, bytes([198, 51, 100, 7]))


def mapped(port: int = 41000, lifetime: int = LIFETIME) -> bytes:
    return struct.pack("!BBHIHHI", 0, 130, 0, 9, PORT, port, lifetime)


def lease(*answers: bytes) -> Lease:
    one = Lease(HERE, PORT, NONCE, 0.0)
    one.handle_timeout(0.0)
    for answer in answers:
        one.receive(answer, 0.1)
    return one


def test_pcp_maps_a_port_and_renews_it_at_half_its_time() -> None:
    one = Lease(HERE, PORT, NONCE, 0.0)
    assert one.handle_timeout(0.0) == [pcp_request(NONCE, HERE, PORT, PORT, LIFETIME)]
    one.receive(pcp_answer(), 0.1)
    assert one.mapped == Endpoint(SEEN, 41000)
    assert one.next_timeout() == pytest.approx(60.1)
    assert one.handle_timeout(60.1) == [pcp_request(NONCE, HERE, PORT, 41000, LIFETIME)]
    assert one.mapped is not None, "while it is renewed"
    one.receive(pcp_answer(port=41001), 60.2)
    assert one.mapped == Endpoint(SEEN, 41001)
    assert one.close() == [pcp_request(NONCE, HERE, PORT, 41001, 0)]
    assert one.next_timeout() is None
    assert one.handle_timeout(99.0) == []


def test_a_request_has_the_form_of_the_rfc() -> None:
    request = pcp_request(NONCE, HERE, PORT, 41000, 120)
    assert len(request) == 60
    assert request[:8] == bytes([2, 1, 0, 0, 0, 0, 0, 120])
    assert request[8:24] == bytes(10) + b"\xff\xff" + bytes([192, 168, 1, 2])
    assert request[24:36] == NONCE
    assert request[36:44] == bytes([6, 0, 0, 0]) + PORT.to_bytes(2, "big") + b"\xa0\x28"
    assert nat_pmp_request(PORT, 41000, 120)[:2] == b"\0\2"
    assert len(nat_pmp_request(PORT, 41000, 120)) == 12


def test_who_knows_the_older_words_alone_is_asked_in_them() -> None:
    one = lease(ONLY_OLDER)
    assert one.handle_timeout(0.1) == [nat_pmp_request(PORT, PORT, LIFETIME), b"\0\0"]
    one.receive(mapped(), 0.2)
    assert one.mapped is None, "the address is said apart"
    one.receive(ADDRESS, 0.3)
    assert one.mapped == Endpoint(SEEN, 41000)
    one.handle_timeout(61.0)
    one.receive(ADDRESS, 61.1)
    assert one.state is State.RENEWING, "the old port is not taken for the new answer"
    one.receive(mapped(41002), 61.2)
    assert one.mapped == Endpoint(SEEN, 41002)
    assert one.close() == [nat_pmp_request(PORT, 0, 0)]


def test_a_silent_router_is_asked_a_few_times_and_then_left_alone() -> None:
    one = Lease(HERE, PORT, NONCE, 0.0)
    now, sent = 0.0, 0
    while one.state is State.ASKING:
        sent += len(one.handle_timeout(now))
        now = one.next_timeout() or now
    assert sent == 4 + 2 * 4
    assert one.reason == "the router does not answer"
    assert now == pytest.approx(7.5 + 60.0)
    assert one.handle_timeout(now)[0][0] == 2, "and again by PCP"
    assert one.close(), "what was asked for may have been done"


def test_what_is_not_renewed_ends_by_itself() -> None:
    one = lease(pcp_answer())
    now = 60.1
    while one.mapped is not None:
        one.handle_timeout(now)
        due = one.next_timeout()
        assert due is not None
        assert due > now or one.mapped is None
        now = due
    assert now >= 120.1


@pytest.mark.parametrize(
    "answer",
    [
        pcp_answer(nonce=b"x" * 12),
        pcp_answer()[:59],
        b"",
        b"\2",
        b"\0",
        b"\7" * 60,
        mapped(),
        ADDRESS,
        pcp_request(NONCE, HERE, PORT, PORT, LIFETIME),
    ],
)
def test_what_was_not_asked_for_means_nothing(answer: bytes) -> None:
    one = lease(answer)
    assert one.mapped is None
    assert one.state is State.ASKING
    one.receive(pcp_answer(), 0.2)
    assert one.state is State.HELD


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (pcp_answer(result=2), "refuses"),
        (pcp_answer(lifetime=0), "no time"),
        (pcp_answer(port=0), "no address"),
    ],
)
def test_a_refusal_is_asked_again_later_and_later(answer: bytes, reason: str) -> None:
    one = lease(answer)
    assert reason in one.reason
    assert one.next_timeout() == pytest.approx(60.1)
    one.handle_timeout(60.1)
    one.receive(answer, 60.2)
    assert one.next_timeout() == pytest.approx(180.2)
    assert one.close() == []


def test_a_router_that_grants_a_moment_is_not_asked_all_the_time() -> None:
    one = lease(pcp_answer(lifetime=1))
    assert one.next_timeout() == pytest.approx(1.1)
    assert one.handle_timeout(1.1) == []
    assert one.mapped is None
    assert one.state is State.RESTING
    assert one.next_timeout() == pytest.approx(10.1)


def test_a_refusal_in_the_older_words() -> None:
    assert read(struct.pack("!BBHI", 0, 130, 2, 9)) == Answer(Kind.MAPPED, 2)
    one = lease(ONLY_OLDER)
    one.handle_timeout(0.1)
    one.receive(struct.pack("!BBHI4s", 0, 128, 3, 9, bytes(4)), 0.2)
    assert "result 3" in one.reason


def test_no_router_grants_more_time_than_it_was_asked_for() -> None:
    one = lease(pcp_answer(lifetime=(1 << 32) - 1))
    now = 0.1
    while (due := one.next_timeout()) is not None and due < 10 * LIFETIME:
        now = due
        one.handle_timeout(now)
        if one.mapped is None:
            break
    assert one.mapped is None
    assert now <= 0.1 + LIFETIME
