"""The grammar of path policies, and what each term means."""

from typing import Any

import pytest

from peers.config.kinds import Dial, PathKind
from peers.config.peer import ConfigError, PeerConfig
from peers.config.policy import PathFacts, Policy, PolicyError
from protocol.lock import Lock

DIRECT, RELAYED = PathKind.DIRECT, PathKind.RELAYED
V4 = PathFacts(DIRECT, "192.0.2.1", "eth0", False)
GLOBAL6 = PathFacts(DIRECT, "2600::1", "wwan0", True)
PRIVATE = PathFacts(DIRECT, "10.0.0.1", "wlan0", False)
UNKNOWN = PathFacts(DIRECT, "8.8.8.8")
PLANE = PathFacts(RELAYED)


@pytest.mark.parametrize(
    ("text", "allowed", "refused"),
    [
        ("", [V4, GLOBAL6, PRIVATE, UNKNOWN, PLANE], []),
        ("only direct", [V4, UNKNOWN], [PLANE]),
        ("not direct", [PLANE], [V4]),
        ("only relayed", [PLANE], [V4]),
        ("not relayed", [V4], [PLANE]),
        ("only ipv6", [GLOBAL6, PLANE], [V4, PRIVATE]),
        ("not ipv4", [GLOBAL6, PLANE], [V4]),
        ("only private", [PRIVATE, V4, PLANE], [GLOBAL6, UNKNOWN]),
        ("only public", [GLOBAL6, UNKNOWN], [PRIVATE]),
        ("not metered", [V4, UNKNOWN, PLANE], [GLOBAL6]),
        ("only metered", [GLOBAL6, PLANE], [V4, UNKNOWN]),
        ("not interface wwan*", [V4, UNKNOWN, PLANE], [GLOBAL6]),
        ("only interface eth?, not relayed", [V4], [GLOBAL6, UNKNOWN, PLANE]),
        ("  only   direct ,within 2.5", [V4], [PLANE]),
        ("prefer ipv6", [V4, GLOBAL6, PLANE], []),
    ],
)
def test_what_may_be_taken(text: str, allowed: list[PathFacts], refused: list[PathFacts]) -> None:
    policy = Policy.parse(text)
    for facts in allowed:
        assert policy.refusal(facts) is None, facts
    for facts in refused:
        rule = policy.refusal(facts)
        assert rule is not None, facts
        assert str(rule) in " ".join(text.split()), "a refusal names its rule"


def test_the_earlier_preference_counts_more() -> None:
    policy = Policy.parse("prefer ipv6, prefer private")
    ranked = sorted([V4, UNKNOWN, GLOBAL6, PRIVATE], key=policy.rank)
    assert ranked[0] is GLOBAL6
    assert ranked[-1] is UNKNOWN


@pytest.mark.parametrize(
    ("text", "word", "position"),
    [
        ("dirct", "'dirct'", 1),
        ("only dirct", "'dirct'", 6),
        ("only direct relayed", "'relayed'", 13),
        ("only direct, nt ipv4", "'nt'", 14),
        ("only", "nothing", 5),
        ("not interface", "nothing", 14),
        ("not interface eth0 eth1", "'eth1'", 20),
        ("only ipv6,", "nothing", 11),
        ("within", "nothing", 7),
        ("within soon", "'soon'", 8),
        ("within 0", "'0'", 8),
        ("within nan", "'nan'", 8),
        ("within 1e9", "'1e9'", 8),
        ("within 2 s", "'s'", 10),
        ("dial", "nothing", 5),
        ("dial fast", "'fast'", 6),
        ("dial open wide", "'wide'", 11),
        ("locks", "nothing", 6),
        ("locks ssh", "'ssh'", 7),
        ("locks tls ssh", "'ssh'", 11),
    ],
)
def test_errors_point_at_the_word(text: str, word: str, position: int) -> None:
    with pytest.raises(PolicyError, match=f"{word} at position {position} "):
        Policy.parse(text)


def test_how_carefully_to_dial() -> None:
    assert Policy.parse("only direct, dial proven").dial is Dial.PROVEN
    assert Policy.parse("dial open, dial careful").dial is Dial.CAREFUL
    assert Policy.parse("only direct").dial is None


def test_what_a_path_by_the_relay_may_be_locked_by() -> None:
    assert Policy.parse("only relayed, locks noise").locks == (Lock.NOISE,)
    assert Policy.parse("locks noise tls").locks == (Lock.TLS, Lock.NOISE)
    assert Policy.parse("locks tls, within 2").locks == (Lock.TLS,)
    assert Policy.parse("only relayed").locks is None


@pytest.mark.parametrize("locks", [(), ("ssh",), "noise", ("tls", "noise", "tls")])
def test_locks_of_a_configuration_that_are_none(locks: Any) -> None:
    with pytest.raises(ConfigError, match="locks"):
        PeerConfig(locks=locks)


def test_a_configuration_takes_both_locks_unless_it_says_otherwise() -> None:
    assert PeerConfig().locks == (Lock.TLS, Lock.NOISE)
    words: Any = ["noise"]
    assert PeerConfig(locks=words).locks == (Lock.NOISE,)


def test_a_policy_has_a_bound() -> None:
    with pytest.raises(PolicyError, match="more than 16"):
        Policy.parse(",".join(["not ipv4"] * 17))


def test_interfaces_must_be_known_only_where_they_count() -> None:
    assert Policy.parse("prefer interface eth0").needs_interfaces
    assert Policy.parse("not metered").needs_interfaces
    assert not Policy.parse("only direct, prefer ipv6").needs_interfaces
