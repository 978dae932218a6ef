"""Looking up over HTTP, at any node."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

from protocol.identity import Identity
from tests.cluster.nats import NatsServer, cluster, known, nats_server, until
from tests.relay.client import registered


async def get(url: str) -> tuple[int, str, object]:
    """Return the status, where it came from in the end, and the body."""

    def ask() -> tuple[int, str, object]:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, answer.url, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.url or "", json.load(error)

    return await asyncio.to_thread(ask)


async def test_a_look_up_leads_to_the_peers_node(nats: NatsServer) -> None:
    async with cluster(nats, "a", "b") as (a, b), registered(a.url, "chat") as alice:
        guid = alice.identity.guid
        await known(guid, "a", b)
        path = f"/v1/peers/{guid}/services/chat"
        status, url, found = await get(b.url + path)
        assert (status, url) == (200, a.url + path)
        assert isinstance(found, dict)
        assert (found["guid"], found["state"]) == (guid, "online")
        stranger = f"/v1/peers/{Identity.generate().guid}/services/chat"
        assert (await get(b.url + stranger))[0] == 404


async def test_without_the_others_nobody_is_said_to_be_unknown(tmp_path: Path) -> None:
    with nats_server(tmp_path) as nats:
        async with cluster(nats, "a") as (a,):
            nats.kill()
            await until(a, lambda: a.cluster is not None and not a.cluster.is_in)
            stranger = f"/v1/peers/{Identity.generate().guid}/services/chat"
            status, _, said = await get(a.url + stranger)
            assert status == 503
            assert isinstance(said, dict)
            assert said["code"] == "cluster_unavailable"
