"""What pages in browsers are told, and whose pages are served; a browser by another's WebSocket."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from protocol.codec import MessageDecoder, encode
from protocol.errors import Code
from protocol.messages import CODE_HEADER, PAGE_PROTOCOL, WEBSOCKET_PROTOCOL, Challenge, Hello
from protocol.tables import FROM_RELAY
from relay.config import ConfigError, RelayConfig
from relay.server import RelayServer
from tests.relay.client import registered
from tests.relay.planes import close, leg, tickets

BOTH = (PAGE_PROTOCOL, WEBSOCKET_PROTOCOL)
ELSEWHERE = {"Origin": "https://elsewhere.example"}


def page(http: aiohttp.ClientSession, url: str, **more: Any) -> Any:
    """Ask as a page does that knows older relays too."""
    return http.ws_connect(url, protocols=more.pop("protocols", BOTH), **more)


async def closed(socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
    """Return how the relay has closed it."""
    async with asyncio.timeout(60):
        message = await socket.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return message.data, message.extra


@pytest.mark.parametrize("protocols", [BOTH, BOTH[::-1], (PAGE_PROTOCOL,)])
async def test_a_control_connection_of_a_page(
    relay: RelayServer, protocols: tuple[str, ...]
) -> None:
    async with (
        registered(relay.url) as someone,
        aiohttp.ClientSession() as http,
        page(http, f"{relay.url}/v1/control", protocols=protocols) as socket,
    ):
        assert socket.protocol == PAGE_PROTOCOL
        await socket.send_bytes(encode(Hello(someone.identity.guid, b"i" * 16, b"n" * 32)))
        async with asyncio.timeout(60):
            data = await socket.receive_bytes()
        (challenge,) = MessageDecoder(FROM_RELAY).receive(data)
        assert isinstance(challenge, Challenge)


async def test_who_names_the_older_protocol_is_told_nothing_else(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        target = alice.plane_target(first, relay.guid)
        async with (
            aiohttp.ClientSession() as http,
            page(http, relay.url + target, protocols=(WEBSOCKET_PROTOCOL,)) as socket,
        ):
            assert socket.protocol == WEBSOCKET_PROTOCOL
            streams, _ = await leg(relay, bob, second)
            streams[1].write(b"the first")
            assert await socket.receive_bytes() == b"the first", "no ticket as text"
            await close(streams)
            with pytest.raises(aiohttp.WSServerHandshakeError) as told:
                await page(http, relay.url + target, protocols=(WEBSOCKET_PROTOCOL,))
            assert told.value.status == 409


async def test_a_leg_of_a_page_brings_its_early_bytes_and_is_told_its_ticket(
    relay: RelayServer,
) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        target = f"{alice.plane_target(first, relay.guid)}&early=_-8"
        async with (
            aiohttp.ClientSession() as http,
            page(http, relay.url + target) as socket,
        ):
            async with asyncio.timeout(60):
                told = json.loads(await socket.receive_str())
                streams, _ = await leg(relay, bob, second)
                await socket.send_bytes(b"!")
                assert await streams[0].readexactly(3) == b"\xff\xef!"
                streams[1].write(b"answer")
                assert await socket.receive_bytes() == b"answer"
            await close(streams)
        again, _ = await leg(relay, alice, told["resume"])
        await close(again)


@pytest.mark.parametrize("early", ["@@@", "a", "AAAA" * 1400])
async def test_early_bytes_that_cannot_be_read(relay: RelayServer, early: str) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, _ = await tickets(alice, bob)
        target = f"{alice.plane_target(first, relay.guid)}&early={early}"
        async with aiohttp.ClientSession() as http, page(http, relay.url + target) as socket:
            assert await closed(socket) == (4400, "bad_message")


async def test_a_refusal_is_a_close_frame(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        async with aiohttp.ClientSession() as http:
            for ticket, expected in (
                ("0" * 32, (4404, "ticket_unknown")),
                (second, (4403, "ticket_foreign")),
            ):
                target = alice.plane_target(ticket, relay.guid)
                async with page(http, relay.url + target) as socket:
                    assert socket.protocol == PAGE_PROTOCOL
                    assert await closed(socket) == expected
            target = alice.plane_target(first, relay.guid)
            streams, _ = await leg(relay, alice, first)
            async with page(http, relay.url + target) as socket:
                assert await closed(socket) == (4409, "ticket_used")
            await close(streams)


async def test_with_it_when_to_come_back() -> None:
    config = RelayConfig(port=0, max_connections=1)
    async with (
        RelayServer(config) as relay,
        registered(relay.url),
        aiohttp.ClientSession() as http,
        page(http, f"{relay.url}/v1/control") as socket,
    ):
        code, reason = await closed(socket)
        word, _, seconds = reason.partition(" ")
        assert (code, word) == (4429, "limit_exceeded")
        assert int(seconds) >= 1


OPENING = (
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def said_to(
    relay: RelayServer,
    headers: str,
    target: str = "/v1/control",
    *,
    all_of_it: bool = False,
    name: str = "",
) -> bytes:
    """Return what a request is answered: the head, or all until the relay closes."""
    host, port = relay.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = (
            f"GET {target} HTTP/1.1\r\nHost: {name or host}\r\nConnection: Upgrade\r\n{headers}\r\n"
        )
        writer.write(head.encode())
        async with asyncio.timeout(60):
            return await (reader.read() if all_of_it else reader.readuntil(b"\r\n\r\n"))
    finally:
        writer.close()


async def test_who_does_not_close_is_ended(relay: RelayServer) -> None:
    headers = f"{OPENING}Sec-WebSocket-Protocol: {PAGE_PROTOCOL}\r\n"
    target = f"/v1/plane/{'0' * 32}?guid={'a' * 52}&signature={'A' * 86}"
    said = await said_to(relay, headers, target, all_of_it=True)
    assert said.endswith(b"\x88\x10" + (4404).to_bytes(2, "big") + b"ticket_unknown")


# -- whose pages are served -----------------------------------------------------------------------


async def ask(url: str, origin: str | None, protocols: tuple[str, ...]) -> object:
    """Return how a WebSocket is closed; 'open' where it is not, or the status of its refusal."""
    headers = {} if origin is None else {"Origin": origin}
    async with aiohttp.ClientSession() as http:
        try:
            async with page(http, url, protocols=protocols, headers=headers) as socket:
                await socket.send_bytes(b"\xc1")
                async with asyncio.timeout(60):
                    message = await socket.receive()
                # What is no message is answered where somebody reads it.
                return "open" if message.type is aiohttp.WSMsgType.BINARY else message.data
        except aiohttp.WSServerHandshakeError as error:
            return error.status, dict(error.headers or {}).get(CODE_HEADER)


@pytest.mark.parametrize(
    ("named", "origin", "is_served"),
    [
        ((), None, True),
        ((), "http://127.0.0.1:8000", True),
        ((), "https://127.0.0.1", True),
        ((), "https://elsewhere.example", False),
        ((), "null", False),
        ((), "http://[", False),
        ((), "http://127.0.0.1.elsewhere.example", False),
        (("https://elsewhere.example",), "https://elsewhere.example", True),
        (("https://Elsewhere.example/",), "https://elsewhere.example", True),
        (("https://elsewhere.example",), "http://elsewhere.example", False),
        (("https://elsewhere.example",), "https://elsewhere.example:444", False),
        (("https://elsewhere.example",), "http://127.0.0.1:8000", True),
        (("*",), "null", True),
    ],
)
async def test_whose_pages_are_served(
    named: tuple[str, ...], origin: str | None, is_served: bool
) -> None:
    async with RelayServer(RelayConfig(port=0, page_origins=named)) as relay:
        url = f"{relay.url}/v1/control"
        assert await ask(url, origin, BOTH) == ("open" if is_served else 4403)
        assert await ask(url, origin, ()) == ("open" if is_served else (403, Code.REFUSED.value))
        headers = {} if origin is None else {"Origin": origin}
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{relay.url}/v1/peers/{'a' * 52}/services/chat", headers=headers) as answer,
        ):
            assert answer.status == 404
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == (origin if is_served else None)
            assert answer.headers.get("Vary") == (None if origin is None else "Origin")


async def test_a_name_that_was_led_here_over_plain_http_is_nobody_s(relay: RelayServer) -> None:
    async def asked(name: str, *more: str) -> bytes:
        lines = (f"Origin: http://{name}", *more)
        headers = OPENING + "".join(f"{line}\r\n" for line in lines)
        return (await said_to(relay, headers, name=name))[:12]

    assert await asked("evil.example:8440") == b"HTTP/1.1 403"
    assert await asked("localhost:8440") == b"HTTP/1.1 101"
    # A proxy on this host has looked at the name.
    assert await asked("chat.example", "X-Forwarded-For: 198.51.100.7") == b"HTTP/1.1 101"


async def test_two_origins_are_none(relay: RelayServer) -> None:
    head = await said_to(relay, f"{OPENING}Origin: {relay.url}\r\nOrigin: https://b.example\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")


async def test_the_raw_carrier_is_no_page_s(relay: RelayServer) -> None:
    headers = "Upgrade: roam-relay/1\r\nOrigin: https://elsewhere.example\r\n"
    head = await said_to(relay, headers)
    assert head.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "origin", ["elsewhere.example", "ftp://elsewhere.example", "https://a.example/path", "null"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="page_origins"):
        RelayConfig(page_origins=(origin,))
