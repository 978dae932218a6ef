"""What each process of one relay gets of its configuration."""

import pytest
from msgspec import structs

from relay.config import ClusterConfig, ConfigError, DnsConfig, RelayConfig, Siblings
from relay.nodes.division import (
    Backbone,
    Place,
    assignment,
    check_shared,
    count_of,
    names_of,
    reloaded,
)


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("2", 2), ("64", 64), ("auto", 6)])
def test_how_many(text: str, count: int) -> None:
    assert count_of(text, 6) == count


@pytest.mark.parametrize("text", ["0", "65", "-1", "x", "", "1.5", "²", "Auto", "9" * 5000])
def test_what_is_no_number_of_processes(text: str) -> None:
    with pytest.raises(ValueError, match="a number from 1 to 64, or 'auto'"):
        count_of(text, 6)


def test_each_has_its_own_folder_and_all_have_one_key_port_and_book() -> None:
    zone = DnsConfig(zone="example.org", port=0, host="192.0.2.1")
    config = RelayConfig(state="/state", identity="relay.key", admin_token="token", dns=zone)
    backbone = Backbone("nats://127.0.0.1:4223", "relay", "/state/nodes/nats/password")
    place = Place("/state/nodes", "/state/relay.key", "/state/relay.sqlite", 8440, 5353, backbone)
    first, second = (assignment(config, name, place) for name in names_of(2))
    assert (first.config.state, second.config.state) == (
        "/state/nodes/node-1",
        "/state/nodes/node-2",
    )
    for one in (first, second):
        assert one.siblings == Siblings(book="/state/relay.sqlite", folder="/state/nodes")
        assert one.config.in_state(one.config.identity or "") == "/state/relay.key"
        assert one.config.in_state(one.config.admin_token or "") == "/state/token"
        assert (one.config.port, one.config.admin_port) == (8440, 0)
        assert one.config.dns == structs.replace(zone, port=5353)
        assert one.config.cluster is not None
        assert one.config.cluster.password == "/state/nodes/nats/password"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (RelayConfig(cluster=ClusterConfig(node="a")), r"\[cluster\]"),
    ],
)
def test_what_cannot_be_shared(config: RelayConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_shared(config)


def test_a_reload_changes_what_can_be_changed_while_it_serves() -> None:
    old = RelayConfig(host="127.0.0.1", state="/state", max_connections=10)
    new = RelayConfig(host="::1", port=9, state="/else", max_connections=20, log_level="debug")
    config, later = reloaded(old, new)
    assert config == structs.replace(old, max_connections=20, log_level="debug")
    assert later == ("host", "port", "state")
    assert reloaded(old, old) == (old, ())


def test_a_certificate_cannot_come_or_go_with_a_reload() -> None:
    plain = RelayConfig()
    secure = RelayConfig(tls_certificate="a", tls_key="b")
    other = RelayConfig(tls_certificate="c", tls_key="d")
    assert reloaded(plain, secure) == (plain, ("tls_certificate", "tls_key"))
    assert reloaded(secure, plain) == (secure, ("tls_certificate", "tls_key"))
    assert reloaded(secure, other) == (other, ())
