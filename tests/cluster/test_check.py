"""`relay check` says whether the cluster works."""

from pathlib import Path
from typing import Any

import nats as nats_client
import pytest
from msgspec import structs

from relay.check import Finding, look
from relay.cluster import Look, look_at_jetstream
from relay.config import ClusterConfig, DnsConfig, RelayConfig
from relay.key_file import read_key
from relay.server import RelayServer
from tests.cluster.nats import NatsServer, joined, nats_server
from tests.relay.test_check import run


@pytest.fixture
def key(tmp_path: Path) -> str:
    file = str(tmp_path / "relay.key")
    assert run("key", file).exit_code == 0
    return file


async def found(config: RelayConfig) -> Finding:
    """Return what is said of the cluster: the first that is not good, if there is one."""
    said = [one async for one in look(config) if one.about == "cluster"]
    return next((one for one in said if one.level != "good"), said[-1])


def of(key: str, nats: NatsServer, **cluster: Any) -> RelayConfig:
    return RelayConfig(
        port=0,
        identity=key,
        cluster=ClusterConfig(
            **({"node": "a", "servers": nats.url, "prefix": Path(key).parent.name} | cluster)
        ),
    )


async def test_a_cluster_that_works(nats: NatsServer, key: str) -> None:
    async with RelayServer(of(key, nats, node="b"), read_key(key)) as other:
        await joined(other, nodes=1)
        finding = await found(of(key, nats))
        assert (finding.level, finding.said) == ("good", "node a: with b")
        assert other.cluster is not None
        assert not other.cluster.directory.nodes, "who only looks says nothing"
        finding = await found(of(key, nats, node="b"))
        assert (finding.level, finding.said) == ("error", "another node has the name b")
        zone = structs.replace(of(key, nats), dns=DnsConfig(zone="example.org", port=0))
        said = [one async for one in look(zone) if one.level == "warning"]
        (other,) = (one.said for one in said if one.about == "dns" and "node b" in one.said)
        assert other.startswith("node b serves no zone, and this one example.org")
        assert [one for one in said if one.about == "jetstream" and "no updates" in one.said]


async def test_what_is_wrong_is_said(nats: NatsServer, key: str, tmp_path: Path) -> None:
    finding = await found(of(key, nats, servers="nats://127.0.0.1:1"))
    assert finding.level == "error"
    assert "127.0.0.1:1" in finding.said
    config = of(key, nats)
    finding = await found(RelayConfig(port=0, cluster=config.cluster))
    assert (finding.level, "a key of its own" in finding.said) == ("error", True)
    finding = await found(RelayConfig(host="0.0.0.0", port=0, identity=key, cluster=config.cluster))
    assert (finding.level, finding.next_step[:8]) == ("error", "name its")
    (tmp_path / "password").write_text("guess")
    finding = await found(
        of(key, nats, credentials=str(tmp_path / "none"), user="x", password="nowhere")
    )
    assert finding.level == "error"


async def test_strangers_on_its_subjects_are_said(nats: NatsServer, key: str) -> None:
    config = of(key, nats)
    assert config.cluster is not None
    stranger = RelayServer(of(key, nats, node="b"))
    async with stranger:
        await joined(stranger, nodes=1)
        finding = await found(config)
    assert (finding.level, "no relay of this key" in finding.said) == ("warning", True)


async def test_what_jetstream_lacks_is_said(nats: NatsServer, key: str, tmp_path: Path) -> None:
    config = of(key, nats)
    (missing,) = [one async for one in look(config) if one.about == "jetstream"]
    assert (missing.level, missing.said[:21]) == ("warning", "NATS has no JetStream")
    assert "nats-server" in missing.next_step

    async def said(server: NatsServer) -> list[Look]:
        return await look_at_jetstream(of(key, server))

    store = f"jetstream {{ store_dir: '{tmp_path}', max_file_store: 64KB }}"
    with nats_server(tmp_path, store) as small:
        assert [one[0] for one in await said(small)] == ["good"]
        async with RelayServer(of(key, small), read_key(key)) as one:
            await joined(one, nodes=1)
        ((level, words, _),) = await said(small)
        assert (level, words.endswith("on 1 of its servers")) == ("good", True)
        operator = await nats_client.connect(small.url)
        stream = operator.jetstream()
        name = words.split()[2].strip(",")
        bound = (await stream.stream_info(name)).config.evolve(max_bytes=4096)
        await stream.update_stream(bound)
        await operator.close()
        ((level, words, _),) = await said(small)
        assert (level, "no room" in words) == ("error", True)
