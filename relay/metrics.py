"""Plain counters, and their Prometheus exposition at scrape time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from relay.loop_time import LoopTime

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, Metric

__all__ = ["Metrics"]


class Metrics:
    """What the relay counts. The attributes are added to directly: the hot path pays one addition.

    `gauges` are functions that are asked at scrape time.
    """

    def __init__(self) -> None:
        self.messages_in = 0
        self.messages_out = 0
        self.connections: Counter[str] = Counter()
        """Control connections opened, by carrier."""
        self.closes: Counter[str] = Counter()
        """Control connections ended, by reason."""
        self.refusals: Counter[str] = Counter()
        """Connections refused or ended before it was proven whose they are, by reason."""
        self.registrations = 0
        self.admissions: Counter[str] = Counter()
        """Peers that have proven their key, by what came of asking whether they are admitted."""
        self.requests: Counter[tuple[str, str]] = Counter()
        """Service requests, by mode and outcome (`ok` or an error code)."""
        self.planes_opened = 0
        self.proofs: Counter[str] = Counter()
        """Probes of endpoints, by outcome: `proven` or `failed`."""
        self.limited: Counter[str] = Counter()
        """What was refused, put off or had to give way because somebody had his share, by what it
        was: the table of budgets in docs/security.md."""
        self.planes_closed: Counter[str] = Counter()
        """Planes ended, by reason."""
        self.dns: Counter[tuple[str, str]] = Counter()
        """DNS messages, by transport and answer."""
        self.plane_bytes_by_way: Counter[str] = Counter()
        """Bytes through planes, both directions, by how they were moved: `splice` or `copy`."""
        self.loop = LoopTime()
        """How long the loop was held, and by whom."""
        self.gauges: dict[str, Callable[[], dict[str, int]]] = {}

    @property
    def plane_bytes(self) -> int:
        """Bytes that planes have moved in all."""
        return sum(self.plane_bytes_by_way.values())

    def collect(self) -> "Iterator[Metric]":
        """Yield the metric families: what prometheus-client asks of a collector."""
        # Imported where a relay is asked for the first time: it takes a twentieth of the start.
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield _counter("messages_in", "Control messages received", {"": self.messages_in})
        yield _counter("messages_out", "Control messages sent", {"": self.messages_out})
        yield _counter("registrations", "Registrations accepted", {"": self.registrations})
        yield _counter("admissions", "Peers admitted and refused", self.admissions, "outcome")
        yield _counter("connections", "Control connections", self.connections, "carrier")
        yield _counter("closes", "Control connections ended", self.closes, "reason")
        yield _counter(
            "refusals", "Connections refused, or ended unproven", self.refusals, "reason"
        )
        requests = CounterMetricFamily(
            "roam_relay_requests", "Service requests", labels=["mode", "outcome"]
        )
        for (mode, outcome), value in self.requests.items():
            requests.add_metric([mode, outcome], value)
        yield requests
        answers = CounterMetricFamily(
            "roam_relay_dns", "DNS messages answered or dropped", labels=["transport", "answer"]
        )
        for (transport, answer), value in self.dns.items():
            answers.add_metric([transport, answer], value)
        yield answers
        yield _counter("planes_opened", "Planes joined", {"": self.planes_opened})
        yield _counter("proofs", "Probes of endpoints", self.proofs, "outcome")
        yield _counter("limited", "Refused, put off or displaced by a budget", self.limited, "what")
        yield _counter(
            "loop_holds", "Visitors that held the loop for 5 ms", self.loop.holds, "serving"
        )
        yield _counter(
            "loop_late_seconds", "Seconds for which the loop was late", self.loop.late, "cause"
        )
        yield _counter("planes_closed", "Planes ended", self.planes_closed, "reason")
        yield _counter("plane_bytes", "Bytes through planes", self.plane_bytes_by_way, "way")
        for name, read in self.gauges.items():
            gauge = GaugeMetricFamily(f"roam_relay_{name}", f"Now: {name}", labels=["state"])
            for label, value in read().items():
                gauge.add_metric([label], value)
            yield gauge

    def exposition(self) -> bytes:
        """Return the text that a Prometheus server scrapes."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)


def _counter(
    name: str, text: str, values: Mapping[str, float], label: str | None = None
) -> "CounterMetricFamily":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"roam_relay_{name}", text, labels=[label] if label else [])
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family
