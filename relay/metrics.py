"""Plain counters, and their Prometheus exposition at scrape time.

`METRICS` is the table of all that is exposed.
"""

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from relay.loop_time import LoopTime
from relay.process import build_info, process_now
from relay.refusals import Refusals
from relay.tally import Tally

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["METRICS", "Described", "Latency", "Metrics", "RequestTold"]

_Kind = Literal["counter", "gauge", "histogram"]
_Values = Mapping[tuple[str, ...], float]
"""By the values of the labels."""


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: what it counts (`counter`, by its name without `_total`), says of now (`gauge`),
    or how long something took (`histogram`)."""

    name: str
    kind: "_Kind"
    text: str
    labels: tuple[str, ...] = ()


def _ours(name: str, kind: "_Kind", text: str, *labels: str) -> Described:
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
    _ours("answer_seconds", "histogram", "From a request that is passed on to its answer", "mode"),
    _ours("dns", "counter", "DNS messages answered or dropped", "transport", "answer"),
    _ours("cluster", "counter", "Between this relay and the others of its cluster", "event"),
    _ours("cluster_now", "gauge", "Nodes, and peers at any of them, as known now", "state"),
    _ours("planes_opened", "counter", "Planes joined"),
    _ours("planes_closed", "counter", "Planes ended", "reason"),
    _ours("plane_bytes", "counter", "Bytes through planes, both directions", "way"),
    _ours("proofs", "counter", "Probes of endpoints", "outcome"),
    _ours("letters", "counter", "Letters, by what became of them", "outcome"),
    _ours("wakes", "counter", "Peers with mail that the endpoint was told of", "outcome"),
    _ours("mailbox", "gauge", "Letters that wait now, their bytes, and whose they are", "state"),
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


class RequestTold(NamedTuple):
    """What has come of one service request."""

    caller: str
    callee: str
    service: str
    mode: str
    outcome: str


class Latency:
    """How long something took, by what it was: counts in buckets, at two additions each."""

    BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
    """Seconds up to which each bucket goes; one more is for what took longer."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """In all, by what it was."""

    def add(self, what: str, seconds: float) -> None:
        counts = self._counts.get(what)
        if counts is None:
            counts = self._counts[what] = [0] * (len(self.BOUNDS) + 1)
        counts[bisect_left(self.BOUNDS, seconds)] += 1
        self.seconds[what] += seconds

    @property
    def total(self) -> tuple[int, float]:
        """How many there were, and the seconds of all together."""
        return sum(map(sum, self._counts.values())), sum(self.seconds.values())

    def buckets(self) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Yield what it was, and how many took up to each bound, as Prometheus has it."""
        bounds = [*map(str, self.BOUNDS), "+Inf"]
        for what, counts in self._counts.items():
            sums = [float(sum(counts[: index + 1])) for index in range(len(counts))]
            yield what, list(zip(bounds, sums, strict=True))


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
        self.answers = Latency()
        """From a request that is passed on to its answer, by mode."""
        self.asked: deque[RequestTold] | None = None
        """What has come of the last requests, while the dashboard looks; it is added to then."""
        self.planes_opened = 0
        self.proofs: Counter[str] = Counter()
        """Probes of endpoints, by outcome: `proven` or `failed`."""
        self.letters: Counter[str] = Counter()
        self.wakes: Counter[str] = Counter()
        """Letters: `stored`, `again` (it was there), `handed`, `done`, `expired`, or the code with
        which it was refused."""
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
            if metric.kind == "histogram":
                yield self._histogram(metric)
                continue
            found = values.get(metric.name.removeprefix("roam_relay_"))
            if found is None:
                continue  # Nobody here can say it: a relay without TLS has no certificate.
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = make(metric.name, metric.text, labels=metric.labels)
            for labels, value in found.items():
                family.add_metric(labels, value)
            yield family

    def _histogram(self, metric: Described) -> "Metric":
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
        for what, buckets in self.answers.buckets():
            family.add_metric((what,), buckets, self.answers.seconds[what])
        return family

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
            "letters": _by_one(self.letters),
            "wakes": _by_one(self.wakes),
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
