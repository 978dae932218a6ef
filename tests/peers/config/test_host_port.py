"""Name servers as they stand in a configuration."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.text(max_size=30))
def test_other_texts_are_an_error_or_a_server(text: str) -> None:
    with contextlib.suppress(ProtocolViolation):
        assert HostPort.parse(text).host
