"""Name servers as they stand in a configuration."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import DdnsConfig
from peers.config.host_port import HostPort
from protocol.errors import ProtocolViolation


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("ns.example", HostPort("ns.example")),
        ("192.0.2.1:5353", HostPort("192.0.2.1", 5353)),
        ("2001:db8::1", HostPort("2001:db8::1")),
        ("[2001:db8::1]:54", HostPort("2001:db8::1", 54)),
        ("[2001:db8::1]", HostPort("2001:db8::1")),
    ],
)
def test_name_servers_as_text(text: str, server: HostPort) -> None:
    assert HostPort.parse(text) == server
    assert HostPort.parse(str(server)) == server


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a..b", "a..", "a" * 70, "a" * 64 + ".org", "a." * 130, "a b", "a\0b", "é" * 70]
    + [
        "\ud800.org",
        "a\nb",
        "[a..b]:53",
        "::1::2",
        "[::1",
        "[]",
        "a:0",
        "a:65536",
        "a:x",
    ],
)
def test_what_no_resolver_takes_is_told_where_it_is_configured(text: str) -> None:
    with pytest.raises(ProtocolViolation, match="not a name server"):
        HostPort.parse(text)
    with pytest.raises(ValueError, match=r"not a name server|a NUL"):
        DdnsConfig(zone="example.org", server=text or ":")
    with pytest.raises(ValueError, match="not a name server"):
        DdnsConfig(zone="example.org", nameservers=(text,))


@pytest.mark.parametrize("text", ["ns.example.", "münchen.example", "fe80::1%eth0", "a" * 63, "_x"])
def test_what_a_resolver_may_take(text: str) -> None:
    assert HostPort.parse(text).host == text


@given(st.text(max_size=30))
def test_other_texts_are_an_error_or_a_server(text: str) -> None:
    with contextlib.suppress(ProtocolViolation):
        assert HostPort.parse(text).host
