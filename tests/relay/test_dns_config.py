"""What can be configured of a relay's zone."""

from pathlib import Path

import pytest

from relay.config import ConfigError, DnsConfig, load


def test_the_configuration_of_a_relay(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[dns]\nzone = "Peers.Example.org"\nport = 5300\n')
    config = load(str(file), {"ROAM_RELAY_DNS_PORT": "5301", "ROAM_RELAY_DNS_STORE": "x"}, {})
    assert config.dns == DnsConfig(zone="Peers.Example.org", port=5301, store="x")
    assert load(None, {}, {}).dns is None
    for text in ('zone = "a b"', 'zone = "a"\nnameserver = ".."', 'zone = "a"\naddresses = "x"'):
        file.write_text(f"[dns]\n{text}\n")
        with pytest.raises(ConfigError, match="dns: "):
            load(str(file), {}, {})
    file.write_text('[dns]\nzone = "a"\nunknown = 1\n')
    with pytest.raises(ConfigError, match="unknown"):
        load(str(file), {}, {})
