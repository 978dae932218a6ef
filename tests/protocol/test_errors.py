"""Codes and the exceptions that stand for them."""

import pytest

from protocol.errors import (
    Code,
    ConnectionClosed,
    LimitExceeded,
    PathFailed,
    PeerOffline,
    Refused,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    SessionClosed,
    SessionLost,
    Superseded,
    UnknownPeer,
    UnknownService,
    UpdateRefused,
    WrongIdentity,
    error_for,
)


def test_who_is_superseded_hears_so_by_what_was_raised_before() -> None:
    error = Superseded("another program")
    assert error.code is Code.SUPERSEDED
    assert isinstance(error, RelayUnavailable)
    assert isinstance(error, UpdateRefused)
    assert (error.reason, error.retry_after) == ("another program", None)


def test_a_code_of_a_later_version_counts_as_internal() -> None:
    assert Code("flux_capacitor_empty") is Code.INTERNAL
    with pytest.raises(ValueError, match="7 is not a valid Code"):
        Code(7)


@pytest.mark.parametrize("code", Code)
def test_every_code_has_an_exception(code: Code) -> None:
    error = error_for(code, "because")
    assert error.code is code
    assert error.reason == str(error) == "because"


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (Code.UNKNOWN_PEER, UnknownPeer),
        (Code.UNKNOWN_SERVICE, UnknownService),
        (Code.REFUSED, Refused),
        (Code.NO_ENDPOINT, Refused),
        (Code.REQUEST_TIMEOUT, RequestTimeout),
        (Code.PEER_OFFLINE, PeerOffline),
        (Code.LIMIT_EXCEEDED, LimitExceeded),
        (Code.CLUSTER_UNAVAILABLE, RelayUnavailable),
        (Code.INTERNAL, RoamRelayError),
    ],
)
def test_the_ladder_from_code_to_exception(code: Code, cls: type[RoamRelayError]) -> None:
    assert type(error_for(code)) is cls


def test_numbers_are_attributes() -> None:
    offline = error_for(Code.PEER_OFFLINE, last_seen=12.5)
    assert isinstance(offline, PeerOffline)
    assert offline.last_seen == 12.5
    for told, expected in ((None, 1.0), (0.0, 0.0), (3.0, 3.0)):
        limit = error_for(Code.LIMIT_EXCEEDED, retry_after=told)
        assert isinstance(limit, LimitExceeded)
        assert limit.retry_after == expected
    lost = SessionLost("no path for 300 s", unacknowledged=3)
    assert lost.unacknowledged == 3
    assert str(lost) == "no path for 300 s (3 messages were not acknowledged)"
    failed = PathFailed("nothing", ("a: refused", "b: silent"))
    assert failed.attempts == ("a: refused", "b: silent")
    assert str(failed) == "nothing; a: refused; b: silent"


def test_a_wrong_identity_names_both() -> None:
    error = WrongIdentity("expected-guid", "actual-guid", "192.0.2.1:1")
    assert (error.expected, error.actual) == ("expected-guid", "actual-guid")
    for part in ("expected-guid", "actual-guid", "192.0.2.1:1"):
        assert part in str(error)


def test_an_error_without_words_says_its_code_or_name() -> None:
    assert str(RoamRelayError(code=Code.INTERNAL)) == "internal"
    assert str(ConnectionClosed()) == "ConnectionClosed"
    assert SessionClosed().code is None
