"""The kit's own WebSocket frames: what it writes it reads, and what breaks RFC 6455 it says."""

import pytest

from peers.conformance.faults import Fault
from peers.conformance.frames import Kind, WebSocketFrames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_what_one_end_writes_the_other_reads(size: int, piece: int) -> None:
    if size > 1000 and piece == 1:
        return
    client, server = WebSocketFrames(is_client=True), WebSocketFrames(is_client=False)
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    for writer, reader in ((client, server), (server, client)):
        data = writer.encode(Kind.BINARY, payload) + writer.encode(Kind.PING, b"x")
        read = []
        for start in range(0, len(data), piece):
            reader.feed(data[start : start + piece])
            read += list(reader.take())
        assert read == [(Kind.BINARY, payload), (Kind.PING, b"x")]


def test_fragments_are_one_message_and_control_frames_may_stand_between() -> None:
    client, server = WebSocketFrames(is_client=True), WebSocketFrames(is_client=False)
    server.feed(client.encode(Kind.BINARY, b"a", last=False))
    server.feed(client.encode(Kind.PING, b"between"))
    server.feed(client.encode(Kind.CONTINUATION, b"b"))
    assert list(server.take()) == [(Kind.PING, b"between"), (Kind.BINARY, b"ab")]


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x01x",  # not masked by a client
        b"\xc2\x81\0\0\0\0x",  # an extension
        b"\x80\x81\0\0\0\0x",  # continues nothing
        b"\x83\x81\0\0\0\0x",  # no kind
    ],
)
def test_what_breaks_the_rules_of_websockets_is_a_fault(data: bytes) -> None:
    server = WebSocketFrames(is_client=False)
    server.feed(data)
    with pytest.raises(Fault):
        list(server.take())
