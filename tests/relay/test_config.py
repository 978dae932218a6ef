"""Where settings come from, and which goes first."""

from pathlib import Path
from typing import Any

import pytest

from protocol.identity import Identity
from relay.config import ClusterConfig, ConfigError, DnsConfig, MailboxConfig, RelayConfig, load


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('port = 1\nheartbeat = 2.5\nhost = "::1"\n[dns]\nzone = "a.example"\n')
    environment = {
        "ROAM_RELAY_PORT": "2",
        "ROAM_RELAY_HEARTBEAT": "3",
        "ROAM_RELAY_DNS_MAX_PEERS": "7",
        "OTHER": "x",
    }
    config = load(str(file), environment, {"port": 3, "host": None})
    assert (config.port, config.heartbeat, config.host) == (3, 3.0, "::1")
    assert config.dns is not None
    assert (config.dns.zone, config.dns.max_peers) == ("a.example", 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "unknown key 'prot'"),
        ("port = 70000", "port"),
        ('port = "1"', "port"),
        ("heartbeat = 0", "heartbeat"),
        ("port = ", "relay.toml"),
        ('tls_key = "key.pem"', "needed together"),
        ("heartbeat = 61", "heartbeat: 61 s is more than half of the lease of 120 s"),
        ("lease = 20", "heartbeat: 15 s is more than half of the lease of 20 s"),
        ('[dns]\nzone = "no zone"', "dns"),
        ('[dns]\nzone = "a.example"\naddresses = "nowhere"', "dns"),
        ('proof_networks = "10.0.0.1/8"', "proof_networks"),
        ('trusted_proxies = ["10.0.0.1/8"]', "trusted_proxies: .*host bits"),
        ('trusted_proxies = ["localhost"]', "trusted_proxies"),
        ('trusted_proxies = "127.0.0.1"', "trusted_proxies"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(str(file), {}, {})


def test_keys_of_several_sources_have_to_fit_together_only_in_the_end(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("heartbeat = 100")
    environment = {"ROAM_RELAY_LEASE": "10"}
    config = load(str(file), environment, {"lease": 200.0})
    assert (config.heartbeat, config.lease) == (100.0, 200.0)
    with pytest.raises(ConfigError, match="half of the lease"):
        load(str(file), environment, {})


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot read /nowhere\.toml"):
        load("/nowhere.toml", {}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", 65536),
        ("port", "8440"),
        ("heartbeat", 0),
        ("heartbeat", 60.5),
        ("proof_networks", ["192.0.2.0/24"]),
        ("proof_networks", "10.0.0.1/8"),
        ("trusted_proxies", ["nowhere"]),
        ("trusted_proxies", "127.0.0.1"),
        ("max_newcomers", 0),
        ("dns", {"zone": 7}),
        ("max_connections", None),
    ],
)
def test_a_program_that_passes_the_wrong_thing_is_told_where_it_does(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        RelayConfig(**{key: value})


def test_trusted_proxies_from_everywhere(tmp_path: Path) -> None:
    assert RelayConfig().trusted_proxies is None
    file = tmp_path / "relay.toml"
    file.write_text('trusted_proxies = ["10.0.0.0/8", "fd00::1"]')
    assert load(str(file), {}, {}).trusted_proxies == ("10.0.0.0/8", "fd00::1")
    environment = {"ROAM_RELAY_TRUSTED_PROXIES": "192.0.2.1, 192.0.2.2"}
    assert load(str(file), environment, {}).trusted_proxies == ("192.0.2.1", "192.0.2.2")
    flags = {"trusted_proxies": ("192.0.2.3",)}
    assert load(str(file), environment, flags).trusted_proxies == ("192.0.2.3",)


def test_letters_are_kept_where_there_is_a_state_folder_and_nobody_says_otherwise() -> None:
    assert not RelayConfig().keeps_letters
    assert RelayConfig(state="/var/lib/relay").keeps_letters
    cluster = ClusterConfig(node="one")
    assert RelayConfig(state="/var/lib/relay", identity="key", cluster=cluster).keeps_letters
    assert not RelayConfig(identity="key", cluster=cluster).keeps_letters
    environment = {"ROAM_RELAY_STATE": "/s", "ROAM_RELAY_MAILBOX_LIFETIME": "3600"}
    config = load(None, environment, {})
    assert (config.mailbox.lifetime, config.keeps_letters) == (3600, True)
    assert not load(None, environment | {"ROAM_RELAY_MAILBOX_ENABLED": "false"}, {}).keeps_letters
    for key, value in (("store", ""), ("lifetime", 1), ("max_letters", 0)):
        with pytest.raises(ConfigError, match=key):
            MailboxConfig(**{key: value})


def test_what_fits_is_put_into_its_type() -> None:
    config = RelayConfig(dns={"zone": "example.org"})  # type: ignore[arg-type]
    assert isinstance(config.dns, DnsConfig)


def test_files_are_in_the_state_folder_unless_they_are_elsewhere() -> None:
    config = RelayConfig(state="/var/lib/relay")
    assert config.in_state("relay.key") == "/var/lib/relay/relay.key"
    assert config.in_state("/etc/relay.key") == "/etc/relay.key"
    assert RelayConfig().in_state("relay.key") == "relay.key"


def test_guids_are_an_array_or_have_commas() -> None:
    one, two = (Identity.from_seed(bytes([number]) * 32).guid for number in (1, 2))
    for written in (f" {one} , {two},{one}", (f"{one} ", two, one)):
        config = RelayConfig(listed=written, operators=written)
        assert config.listed_guids == config.operator_guids == (one, two)
    named = load(None, {"ROAM_RELAY_LISTED": f"{one},{two}"}, {})
    assert named.listed_guids == (one, two)


def test_a_variable_that_is_no_text_is_said() -> None:
    with pytest.raises(ConfigError, match="the environment: port: it is no text"):
        load(None, {"ROAM_RELAY_PORT": "\udcff"}, {})
