"""The configuration of a peer: what does not fit is said where it was made."""

from typing import Any

import pytest

from peers import Carrier, ConfigError, DdnsConfig, Mode, PeerConfig, PolicyError, SessionSettings


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("metered", (1,), "str"),
        ("metered", "wwan*", "array"),
        ("stagger", "soon", "float"),
        ("stagger", float("nan"), "> 0"),
        ("connect_timeout", -1, "> 0"),
        ("request_timeout", 61.0, "<= 60"),
        ("listen_hosts", "0.0.0.0", "array"),
        ("listen_port", 65536, "<= 65535"),
        ("services", {"not a name": Mode.P2P}, "services"),
        ("guids", {"short": "p2p"}, "guids"),
        ("mode", "telepathy", "mode"),
        ("session", {"window": 1}, "window"),
        ("session", None, "session"),
        ("select", len, "select"),
        ("sources", [None], "sources"),
        ("relay", 8440, "relay"),
        ("policy", 3, "policy"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as told:
        PeerConfig(**{key: value})
    assert key in str(told.value)


def test_what_fits_is_put_into_its_type() -> None:
    config = PeerConfig(
        mode="central",  # type: ignore[arg-type]
        carrier="websocket",  # type: ignore[arg-type]
        services={"chat": "p2p"},  # type: ignore[dict-item]
        sources=["192.0.2.1"],  # type: ignore[arg-type]
        session={"window": 4096},  # type: ignore[arg-type]
    )
    assert config.mode is Mode.CENTRAL
    assert config.carrier is Carrier.WEBSOCKET
    assert config.mode_for("a" * 52, "chat") is Mode.P2P
    assert config.sources == ("192.0.2.1",)
    assert config.session == SessionSettings(window=4096)


def test_a_policy_that_cannot_be_read_points_at_the_word() -> None:
    with pytest.raises(PolicyError, match="position 6"):
        PeerConfig(policies={"chat": "only telepathy"})


@pytest.mark.parametrize("settings", [{"window": 5}, {"linger": 0}, {"ping_interval": "often"}])
def test_settings_of_sessions_have_the_same_bounds(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SessionSettings(**settings)


def test_so_has_the_dns() -> None:
    with pytest.raises(ValueError, match="refresh"):
        DdnsConfig(zone="example.org", refresh=-1)
    with pytest.raises(ValueError, match="nameservers"):
        DdnsConfig(zone="example.org", nameservers="192.0.2.1")  # type: ignore[arg-type]
