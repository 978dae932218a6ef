"""Plain counters, and their Prometheus exposition at scrape time.

`METRICS` is the table of all that is exposed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from relay.loop_time import LoopTime
from relay.process import build_info, process_now
from relay.refusals import Refusals
from relay.tally import Tally

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["METRICS", "Described", "Metrics"]

_Values = Mapping[tuple[str, ...], float]
"""By the values of the labels."""


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: what it counts (`counter`, by its name without `_total`) or says of now
    (`gauge`)."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: tuple[str, ...] = ()


def _ours(name: str, kind: Literal["counter", "gauge"], text: str, *labels: str) -> Described:
    return Described(f"roam_relay_{name}", kind, text, labels)


METRICS = (
    _ours("messages_in", "counter", "Control messages received"),
    _ours("messages_out", "counter", "Control messages sent"),
    _ours("registrations", "counter", "Registrations accepted"),
    _ours("admissions", "counter", "Peers admitted and refused", "outcome"),
    _ours("connections", "counter", "Control connections", "carrier"),
    _ours("closes", "counter", "Control connections ended", "reason"),
    _ours("refusals", "counter", "Connections refused, or ended unproven", "reason"),
    _ours("requests", "counter", "Service requests, by how they were answered", "mode", "outcome"),
    _ours("dns", "counter", "DNS messages answered or dropped", "transport", "answer"),
    _ours("cluster", "counter", "Between this relay and the others of its cluster", "event"),
    _ours("cluster_now", "gauge", "Nodes, and peers at any of them, as known now", "state"),
    _ours("planes_opened", "counter", "Planes joined"),
    _ours("planes_closed", "counter", "Planes ended", "reason"),
    _ours("plane_bytes", "counter", "Bytes through planes, both directions", "way"),
    _ours("proofs", "counter", "Probes of endpoints", "outcome"),
    _ours("limited", "counter", "Refused, put off or displaced by a budget", "what"),
    _ours("loop_holds", "counter", "Visitors that held the loop for 5 ms", "serving"),
    _ours("loop_late_seconds", "counter", "Seconds for which the loop was late", "cause"),
    _ours("loop_lag_seconds", "gauge", "Most that the loop was late in the last 10 to 20 s"),
    _ours("peers", "gauge", "Peers that are known now", "state"),
    _ours("watches", "gauge", "Watches of peers now", "state"),
    _ours("connections_open", "gauge", "Control connections now", "state"),
    _ours("newcomers", "gauge", "Connections now whose owner is not proven", "state"),
    _ours("planes_open", "gauge", "Planes now", "state"),
    _ours("pipes", "gauge", "Pipes for planes now", "state"),
    _ours("certificate_seconds", "gauge", "Seconds until the certificate ends", "state"),
    _ours(
        "build_info",
        "gauge",
        "1; the labels are the program's version, and what it runs on",
        *("version", "python", "implementation", "system"),
    ),
    Described("process_cpu_seconds", "counter", "Processor time of the process, in seconds"),
    Described("process_resident_memory_bytes", "gauge", "Resident memory in bytes"),
    Described("process_open_fds", "gauge", "Open file descriptors"),
    Described("process_max_fds", "gauge", "File descriptors that the process may have open"),
    Described("process_start_time_seconds", "gauge", "Unix time of the start of the process"),
)
"""What is exposed, in that order; counters get `_total` at their names' end."""


class Metrics:
    """What the relay counts. The attributes are added to directly: the hot path pays one addition.

    `gauges` are functions that are asked at scrape time, each for a metric of the table.
    """

    def __init__(self) -> None:
        self.messages_in = 0
        self.messages_out = 0
        self.connections: Counter[str] = Counter()
        """Control connections opened, by carrier."""
        self.closes: Counter[str] = Counter()
        """Control connections ended, by reason."""
        self.refusals = Refusals()
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
        self.cluster: Counter[str] = Counter()
        """What has happened between this relay and the others of its cluster."""
        self.dns: Counter[tuple[str, str]] = Counter()
        """DNS messages, by transport and answer."""
        self.plane_bytes_by_way: Counter[str] = Counter()
        """Bytes through planes, both directions, by how they were moved: `splice` or `copy`."""
        self.loop = LoopTime()
        """How long the loop was held, and by whom."""
        self.tally = Tally()
        """What each peer has had, of those who have most; told here when it has ended."""
        self.gauges: dict[str, Callable[[], Mapping[str, float]]] = {}

    @property
    def plane_bytes(self) -> int:
        """Bytes that planes have moved in all."""
        return sum(self.plane_bytes_by_way.values())

    def collect(self) -> "Iterator[Metric]":
        """Yield the metric families: what prometheus-client asks of a collector."""
        # Imported where a relay is asked for the first time: it takes a twentieth of the start.
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        values = self._values()
        for metric in METRICS:
            found = values.get(metric.name.removeprefix("roam_relay_"))
            if found is None:
                continue  # Nobody here can say it: a relay without TLS has no certificate.
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = make(metric.name, metric.text, labels=metric.labels)
            for labels, value in found.items():
                family.add_metric(labels, value)
            yield family

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text that a Prometheus server scrapes, and its content type; `accept` is what
        it would rather have."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def _values(self) -> dict[str, _Values]:
        """Return what each metric of the table is now, by its own part of the name."""
        process = process_now()
        values: dict[str, _Values] = {
            "messages_in": {(): self.messages_in},
            "messages_out": {(): self.messages_out},
            "registrations": {(): self.registrations},
            "admissions": _by_one(self.admissions),
            "connections": _by_one(self.connections),
            "closes": _by_one(self.closes),
            "refusals": _by_one(self.refusals),
            "requests": dict(self.requests.items()),
            "dns": dict(self.dns.items()),
            "cluster": _by_one(self.cluster),
            "planes_opened": {(): self.planes_opened},
            "planes_closed": _by_one(self.planes_closed),
            "plane_bytes": _by_one(self.plane_bytes_by_way),
            "proofs": _by_one(self.proofs),
            "limited": _by_one(self.limited),
            "loop_holds": _by_one(self.loop.holds),
            "loop_late_seconds": _by_one(self.loop.late),
            "loop_lag_seconds": {(): self.loop.lag},
            "build_info": {tuple(build_info().values()): 1.0},
            "process_cpu_seconds": {(): process.cpu_seconds},
            "process_start_time_seconds": {(): process.started},
        }
        if process.resident_bytes is not None:
            values["process_resident_memory_bytes"] = {(): process.resident_bytes}
        if process.max_descriptors is not None:
            values["process_max_fds"] = {(): process.max_descriptors}
        if process.descriptors is not None:
            values["process_open_fds"] = {(): process.descriptors}
        for name, read in self.gauges.items():
            values[name] = _by_one(read())
        return values


def _by_one(values: Mapping[str, float]) -> _Values:
    return {(label,): value for label, value in values.items()}
