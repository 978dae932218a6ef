"""What a Prometheus server scrapes."""

from prometheus_client.parser import text_string_to_metric_families

from relay.metrics import Metrics


def test_the_exposition_is_read_by_prometheus() -> None:
    metrics = Metrics()
    metrics.messages_in += 3
    metrics.requests["auto", "ok"] += 2
    metrics.dns["udp", "NOERROR"] += 1
    metrics.plane_bytes_by_way["splice"] += 10
    metrics.plane_bytes_by_way["copy"] += 5
    metrics.gauges["peers"] = lambda: {"online": 4, "offline": 0}
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    assert samples["roam_relay_messages_in_total", ()] == 3
    assert samples["roam_relay_requests_total", ("auto", "ok")] == 2
    assert samples["roam_relay_dns_total", ("NOERROR", "udp")] == 1
    assert samples["roam_relay_plane_bytes_total", ("copy",)] == 5
    assert samples["roam_relay_peers", ("online",)] == 4
    assert metrics.plane_bytes == 15
