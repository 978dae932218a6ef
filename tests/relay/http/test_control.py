"""What a request for a control connection becomes."""

import aiohttp

from protocol.messages import (
    WEBSOCKET_PROTOCOL,
)
from relay.server import RelayServer


async def test_websocket_carrier_by_a_foreign_client(relay: RelayServer) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{relay.url}/v1/control", protocols=(WEBSOCKET_PROTOCOL,)) as websocket,
    ):
        assert websocket.protocol == WEBSOCKET_PROTOCOL
        await websocket.send_bytes(b"\xc1")
        message = await websocket.receive_bytes()
        assert b"bad_message" in message
        assert (await websocket.receive()).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
        )
