"""What anybody may ask over HTTP."""

from time import monotonic

import aiohttp

from relay.server import RelayServer
from tests.relay.client import registered


async def test_http(relay: RelayServer) -> None:
    async with aiohttp.ClientSession(relay.url) as http, registered(relay.url, "chat") as bob:
        async with http.get("/v1/control") as answer:
            assert answer.status == 426
            assert "roam-relay/1" in answer.headers["Upgrade"]
            assert answer.headers["Roam-Relay-Code"] == "upgrade_required"
            assert (await answer.json())["code"] == "upgrade_required"
        async with http.get("/healthz") as answer:
            assert answer.status == 200
        async with http.get("/readyz") as answer:
            assert answer.status == 200
        async with http.get("/") as answer:
            assert "Roam Relay" in await answer.text()
        async with http.get("/metrics") as answer:
            assert 'roam_relay_peers{state="online"} 1.0' in await answer.text()
        async with http.get(f"/v1/peers/{bob.identity.guid}/services/chat") as answer:
            body = await answer.json()
            assert body["state"] == "online"
            assert body["endpoints"][0]["host"] == "127.0.0.1"
        async with http.get(f"/v1/peers/{bob.identity.guid}/services/mail") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "unknown_service")
        async with http.get("/v1/peers/nobody/services/chat") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "unknown_peer")
            # The relay has just started: not for sure yet.
            assert int(answer.headers["Retry-After"]) > 0
        relay.registry.started(monotonic() - 60.0)
        async with http.get("/v1/peers/nobody/services/chat") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "unknown_peer")
            assert "Retry-After" not in answer.headers
