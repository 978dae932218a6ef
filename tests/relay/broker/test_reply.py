"""A reply is given once: the first word counts."""

import pytest

from protocol.errors import Code
from protocol.messages import (
    LocationRecord,
    Mode,
    PeerState,
    ServiceRequestTo,
    ServiceResponse,
)
from relay.broker.reply import Reply
from relay.metrics import Metrics
from relay.presence import RegisteredPeer
from tests.relay.fakes import FakeAttachment

REQUEST = ServiceRequestTo(7, "b" * 52, "chat", Mode.AUTO, b"s" * 16)
CALLEE = RegisteredPeer("b" * 52, b"i" * 16, LocationRecord(1, ()), {}, 0.0)

WORDS = {
    "ok": lambda reply: reply.succeed(CALLEE, 1.0),
    "peer_offline": lambda reply: reply.offline(PeerState.SUSPECT, 1.0),
    "refused": lambda reply: reply.fail(Code.REFUSED, "no"),
}


@pytest.mark.parametrize("first", WORDS)
@pytest.mark.parametrize("second", WORDS)
def test_the_first_word_counts(first: str, second: str) -> None:
    caller, metrics = FakeAttachment(), Metrics()
    reply = Reply(caller, REQUEST, metrics, "ticket")
    WORDS[first](reply)
    failed = reply.failed
    WORDS[second](reply)
    (answer,) = caller.got
    assert isinstance(answer, ServiceResponse)
    assert answer.request == 7
    assert (answer.code is None) == (first == "ok") == (not reply.failed)
    assert reply.failed == failed
    assert answer.ticket == ("ticket" if first == "ok" else None)
    assert metrics.requests == {("auto", first): 1}


def test_who_has_gone_is_told_nothing() -> None:
    caller = FakeAttachment()
    reply = Reply(caller, REQUEST, Metrics())
    reply.drop()
    reply.fail(Code.REFUSED, "no")
    assert reply.failed
    assert caller.got == []
