"""Messages on a byte stream: what leaves when, and what a reader may do."""

import asyncio

import msgpack

from peers.control.connection import ControlEvent, PeerChanged, RequestArrived
from protocol.codec import encode
from protocol.errors import Code
from protocol.messages import Error, Mode, PeerEvent, Ping, Pong, ServiceRequestFrom, Watch
from tests.peers.control.scripted import RELAY, Events, connected

ASKED = ServiceRequestFrom(5, RELAY.guid, "chat", Mode.P2P, b"s" * 16)
CHANGED = PeerEvent(RELAY.guid, seq=1)


async def test_who_closes_over_an_event_hears_no_more() -> None:
    heard: list[ControlEvent] = []

    def tell(event: ControlEvent) -> None:
        heard.append(event)
        if isinstance(event, RequestArrived):
            event.connection.close()

    wire, _ = await connected(tell)
    wire.say(CHANGED, ASKED, CHANGED)
    wire.say(CHANGED)
    assert len(heard) == 2


async def test_a_relay_that_does_not_read_is_given_up() -> None:
    wire, connection = await connected(Events())
    wire.paused = True
    for _ in range(200_000):
        connection.watch(Watch(RELAY.guid))
        if connection.is_closed:
            break
    error = await connection.keep_alive()
    assert error.code is Code.SLOW_CONSUMER
    assert wire.aborted


async def test_what_waits_for_a_slow_relay_leaves_when_it_reads_again() -> None:
    wire, connection = await connected(Events())
    wire.paused = True
    connection.watch(Watch(RELAY.guid))
    await asyncio.sleep(0)
    assert wire.got == []
    wire.paused = False
    wire.owner.stream_writable()
    assert await wire.next(Watch) == Watch(RELAY.guid)


async def test_messages_of_one_turn_leave_in_one_write() -> None:
    wire, connection = await connected(Events())
    writes: list[bytes] = []
    wire.write = writes.append  # type: ignore[method-assign]
    for _ in range(5):
        connection.watch(Watch(RELAY.guid))
    await asyncio.sleep(0)
    assert len(writes) == 1


async def test_what_is_no_message_ends_it_and_the_relay_hears_why() -> None:
    wire, connection = await connected(Events())
    wire.owner.stream_data(b"\xc1")
    error = await connection.keep_alive()
    assert "broke the protocol" in error.reason
    said = wire.got[-1]
    assert isinstance(said, Error)
    assert said.code is Code.BAD_MESSAGE
    assert wire.aborted


async def test_a_type_that_is_not_known_is_survived() -> None:
    wire, connection = await connected(Events())
    wire.owner.stream_data(msgpack.packb({"type": "from the future"}) + encode(Ping(4)))
    assert await wire.next(Pong) == Pong(4)
    assert not connection.is_closed


async def test_bytes_in_any_pieces_are_the_same_messages() -> None:
    events = Events()
    wire, _ = await connected(events)
    for byte in encode(CHANGED) * 3:
        wire.owner.stream_data(bytes([byte]))
    assert events == [PeerChanged(CHANGED)] * 3
