"""Headers of the PROXY protocol."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.http.proxy_header import (
    MAX_HEADER,
    BadProxyHeader,
    ProxyHeader,
    looks_like_header,
    read_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(body: bytes, command: int = 0x21, kind: int = 0x11, size: int | None = None) -> bytes:
    return (
        SIGNATURE + struct.pack("!BBH", command, kind, len(body) if size is None else size) + body
    )


def ipv4(source: str = "192.0.2.7", port: int = 51000) -> bytes:
    return (
        socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 443)
    )


def ipv6(source: str, port: int = 51000) -> bytes:
    return (
        socket.inet_pton(socket.AF_INET6, source)
        + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
        + struct.pack("!HH", port, 443)
    )


@pytest.mark.parametrize(
    ("data", "client"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n", ("192.0.2.7", 51000)),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n", ("2001:db8::7", 51000)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 443\r\n", ("192.0.2.7", 1)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", None),
        (v2(ipv4()), ("192.0.2.7", 51000)),
        (v2(ipv6("2001:db8::7"), kind=0x21), ("2001:db8::7", 51000)),
        (v2(ipv6("::ffff:192.0.2.7"), kind=0x21), ("192.0.2.7", 51000)),
        (v2(ipv4() + b"\x04\0\x03abc" + b"\x02\0\0"), ("192.0.2.7", 51000)),
        (v2(b"", command=0x20, kind=0), None),
        (v2(ipv4(), command=0x20), None),
        (v2(b"", kind=0), None),
        (v2(bytes(216), kind=0x31), None),
        (v2(ipv4(), kind=0x12), None),
    ],
)
def test_who_it_is(data: bytes, client: tuple[str, int] | None) -> None:
    assert looks_like_header(data) is True
    assert read_header(data + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(data), client)
    for cut in range(len(data)):
        assert looks_like_header(data[:cut]) is not False
        if looks_like_header(data[:cut]):
            assert read_header(data[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\n",
        b"PROXY TCP4 192.0.2.7  198.51.100.1 51000 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443 \r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1000 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 443\r\n",
        b"PROXY TCP4 2001:db8::7 198.51.100.1 1 443\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 443\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 1 443\r\n",
        b"PROXY TCP4 " + b"1" * 120,
        v2(ipv4(), command=0x11),
        v2(ipv4(), command=0x22),
        v2(ipv4(), kind=0x41),
        v2(ipv4(), kind=0x13),
        v2(ipv4()[:-1]),
        v2(ipv4(), kind=0x21),
        v2(ipv4() + b"\x04"),
        v2(ipv4() + b"\x04\0\x09abc"),
        v2(b"", size=MAX_HEADER),
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    assert looks_like_header(data) is True
    with pytest.raises(BadProxyHeader):
        read_header(data)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PUT /", b"\x16\x03\x01", b"\r\n\r\nx"])
def test_what_is_none(data: bytes) -> None:
    assert looks_like_header(data) is False


@given(st.binary(max_size=300), st.sampled_from([b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_any_bytes(data: bytes, start: bytes) -> None:
    try:
        header = read_header(start + data)
    except BadProxyHeader:
        return
    assert header is None or len(start) < header.length <= len(start) + len(data)
