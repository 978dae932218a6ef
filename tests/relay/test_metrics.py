"""What a Prometheus server scrapes."""

import os
import subprocess
import time
from importlib import metadata
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from relay.config import ClusterConfig, DnsConfig, RelayConfig
from relay.metrics import METRICS, Metrics
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.relay.client import registered


def test_the_exposition_is_read_by_prometheus() -> None:
    metrics = Metrics()
    metrics.messages_in += 3
    metrics.requests["auto", "ok"] += 2
    metrics.dns["udp", "NOERROR"] += 1
    metrics.plane_bytes_by_way["splice"] += 10
    metrics.plane_bytes_by_way["copy"] += 5
    metrics.gauges["peers"] = lambda: {"online": 4, "offline": 0}
    body, content_type = metrics.exposition()
    assert content_type.startswith("text/plain; version=")
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["roam_relay_messages_in_total", ()] == 3
    assert samples["roam_relay_requests_total", ("auto", "ok")] == 2
    assert samples["roam_relay_dns_total", ("NOERROR", "udp")] == 1
    assert samples["roam_relay_plane_bytes_total", ("copy",)] == 5
    assert samples["roam_relay_peers", ("online",)] == 4
    assert metrics.plane_bytes == 15


def test_the_process_and_the_program_are_told() -> None:
    body, _ = Metrics().exposition()
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}

    def value(name: str) -> float:
        (sample,) = families[name].samples
        return sample.value

    assert 0 < value("process_cpu_seconds") <= sum(os.times()[:2]) + 1
    assert 1 << 20 < value("process_resident_memory_bytes") < 1 << 40
    assert 3 <= value("process_open_fds") <= value("process_max_fds")
    assert value("process_open_fds") == pytest.approx(len(os.listdir("/proc/self/fd")), abs=2)
    assert time.time() - 86_400 * 30 < value("process_start_time_seconds") <= time.time()
    (build,) = families["roam_relay_build_info"].samples
    assert build.value == 1
    assert build.labels["version"] == metadata.version("roam-relay")
    assert build.labels["python"].startswith("3.")
    assert value("roam_relay_loop_lag_seconds") >= 0


def test_each_metric_is_described_once_and_each_that_there_is_is_described() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert all(metric.text.strip() for metric in METRICS)
    known = {name.removeprefix("roam_relay_") for name in names}
    assert set(Metrics()._values()) <= known


def promtool(body: bytes) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("is_one_of_many", [False, True])
async def test_promtool_finds_nothing_to_mend(tmp_path: Path, is_one_of_many: bool) -> None:
    """With every kind of sample there: what is missing is not checked. Of relays that are one none
    keeps letters."""
    chain, key = certificate(tmp_path)
    dns = DnsConfig(zone="example.org", port=0)
    cluster = ClusterConfig(node="a", servers="nats://127.0.0.1:1")
    config = RelayConfig(
        port=0,
        dns=dns,
        tls_certificate=chain,
        tls_key=key,
        cluster=cluster if is_one_of_many else None,
        state=str(tmp_path / "state"),
    )
    async with RelayServer(config) as relay:
        metrics = relay.metrics
        metrics.requests["auto", "ok"] += 1
        for seconds in (0.001, 0.02, 60.0):
            metrics.answers.add("combined", seconds)
        metrics.dns["udp", "NOERROR"] += 1
        for one in (metrics.connections, metrics.closes, metrics.admissions, metrics.proofs):
            one["any"] += 1
        metrics.cluster["any"] += 1
        for one in (
            metrics.letters,
            metrics.wakes,
            metrics.limited,
            metrics.planes_closed,
            metrics.plane_bytes_by_way,
        ):
            one["any"] += 1
        metrics.loop.holds["any"] += 1
        metrics.refusals.add("too_often", "192.0.2.1")
        body, _ = metrics.exposition()
        values = metrics._values()
    plain = {metric.name for metric in METRICS if metric.kind != "histogram"}
    missing = {name.removeprefix("roam_relay_") for name in plain} - set(values)
    assert missing == (set() if is_one_of_many else {"cluster_now"})
    lines = body.decode().splitlines()
    for bound, count in (("0.005", 1), ("0.025", 2), ("10.0", 2), ("+Inf", 3)):
        line = f'roam_relay_answer_seconds_bucket{{le="{bound}",mode="combined"}} {count}.0'
        assert line in lines
    assert all(values.values()), {name for name, value in values.items() if not value}
    assert promtool(body) == (0, b"", b"")


async def test_who_wants_openmetrics_gets_it(relay: RelayServer) -> None:
    wants = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"}
    async with (
        registered(relay.url, "chat"),
        aiohttp.ClientSession(relay.url) as http,
        http.get("/metrics", headers=wants) as answer,
    ):
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = await answer.text()
    found = {family.name for family in openmetrics_families(text)}
    assert "roam_relay_registrations" in found
    async with aiohttp.ClientSession(relay.url) as http, http.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
