"""Features: what both have named."""

from protocol.features import RELAY_FALLBACK, RELAY_FEATURES, SESSION_FEATURES, shared
from protocol.messages import MAX_FEATURE_NAME, MAX_FEATURES


def test_only_what_both_have_named_is_shared() -> None:
    assert shared(("a", "b"), ("b", "c")) == {"b"}
    assert shared((), ("b", "c")) == shared(("a",), ()) == frozenset()


def test_what_is_named_here_fits() -> None:
    for names in (RELAY_FEATURES, (RELAY_FALLBACK, *SESSION_FEATURES)):
        assert len(names) <= MAX_FEATURES
        assert all(0 < len(name) <= MAX_FEATURE_NAME for name in names)
