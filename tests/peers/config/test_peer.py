"""The configuration of a peer: which value goes before which, and what is said of a file that
cannot be used."""

from pathlib import Path
from typing import Any

import pytest

from peers import (
    Carrier,
    ConfigError,
    DdnsConfig,
    Identity,
    Mode,
    PeerConfig,
    PolicyError,
    SessionSettings,
)
from peers.config import policy_for
from protocol.invitation import Token
from tests.peers.cli.commands import run_peer

GUID, OTHER = Identity.generate().guid, Identity.generate().guid


async def test_a_config_names_the_word_of_a_policy(tmp_path: Path) -> None:
    config = tmp_path / "peer.toml"
    config.write_text('[policies]\nchat = "only dirct"\n')
    code, _, errors = await run_peer("--config", str(config), "id")
    assert code == 2
    assert "peer.toml" in errors
    assert "'dirct'" in errors


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"relay = ", "peer.toml"),
        (b'nonsense = "x"', "nonsense"),
        (b"listen_port = 70000", "listen_port"),
        (b'mode = "sideways"', "sideways"),
        (b"stagger = 0", "stagger"),
        (b"[session]\nwindow = 1", "window"),
        (b"\xff\xfe", "peer.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_fault(
    tmp_path: Path, text: bytes, named: str
) -> None:
    file = tmp_path / "peer.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=named):
        PeerConfig.load(file)
    with pytest.raises(ConfigError, match="cannot read"):
        PeerConfig.load(tmp_path / "none.toml")


def test_the_peer_goes_before_the_service_and_the_service_before_the_default() -> None:
    config = PeerConfig(
        mode=Mode.P2P,
        services={"mail": Mode.CENTRAL},
        guids={GUID: Mode.COMBINED},
        policy="only ipv4",
        policies={"mail": "only direct", GUID: "only relayed"},
        select="latest",
        selects={"mail": "fastest", GUID: "latest"},
    )
    told = [
        (config.mode_for(*who), policy_for(config, *who).text, config.select_for(*who))
        for who in ((OTHER, "chat"), (OTHER, "mail"), (GUID, "mail"))
    ]
    assert told == [
        (Mode.P2P, "only ipv4", "latest"),
        (Mode.CENTRAL, "only direct", "fastest"),
        (Mode.COMBINED, "only relayed", "latest"),
    ]


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


@pytest.mark.parametrize("key", ["listen_hosts", "advertise", "sources"])
@pytest.mark.parametrize("host", ["a..b", "x" * 70, "relay.example", "", "::1%\0", "192.0.2.1:9"])
def test_what_is_no_address_is_said_where_it_is_configured(key: str, host: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: not an IP address"):
        PeerConfig(**{key: ("192.0.2.1", host)})  # type: ignore[arg-type]
    PeerConfig(**{key: ("192.0.2.1", "fe80::1%eth0")})  # type: ignore[arg-type]


def test_an_invitation_is_checked_and_not_shown() -> None:
    text = Token.make(Identity.generate(), bytes(range(32)), expires=2_000_000_000).text
    config = PeerConfig(invitation=text)
    assert text not in repr(config)
    assert "mode=" in repr(config)
    for wrong in (text[:-5], "hello", ""):
        with pytest.raises(ConfigError, match=r"^invitation: ") as caught:
            PeerConfig(invitation=wrong)
        assert text[10:40] not in str(caught.value)
