"""What several processes show of themselves, as what one relay shows.

PURE. Each tells what it tells a page; how that comes here is in `dashboard.py`.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, zip_longest
from typing import Any, TypeVar

from relay.dashboard import MOST, MOST_NEWS, MOST_PLANES, Change

__all__ = ["Joined", "NodeState"]

SILENT = 3.0
"""Seconds without a word after which a node is said to be silent; each tells something every
second."""

_PLAIN = ("messages_in", "messages_out", "plane_bytes", "cpu")
_NAMED = ("limited", "refusals", "proofs")
_ANSWERS = (("answers", "how many"), ("answers", "seconds"))
_SUMMED = ("peers", "watches", "connections_open", "pipes", "newcomers", "planes_open")
"""Gauges that are of all nodes when they are added."""
_OF_ONE = frozenset({"node came", "node left"})
"""News that each node has of the others: here they are told once."""

_Key = tuple[str, ...]
_Counts = dict[_Key, float]
_Row = dict[str, Any]


class NodeState(StrEnum):
    """How a node is, as this page knows it."""

    SERVES = "serves"
    SILENT = "silent"
    """It is there, and has said nothing for `SILENT` seconds: what is shown of it is of before."""
    AWAY = "away"
    """It has ended, and is started anew."""


_NEWS = {
    (NodeState.SERVES, NodeState.SILENT): "node silent",
    (NodeState.SILENT, NodeState.SERVES): "node heard",
}
"""What a change is called; to and from `AWAY` besides."""


@dataclass(slots=True)
class _Node:
    """What is known of one node."""

    rows: dict[str, _Row] = field(default_factory=dict)
    """Its peers, by their keys."""
    stale: set[str] = field(default_factory=set)
    """Peers that were told before it began anew, and not again yet."""
    now: Mapping[str, Any] | None = None
    """What it has told last; also after its end, for its counts."""
    heard: float | None = None
    """When; None while it tells nothing."""
    news: deque[_Row] = field(default_factory=deque)
    more_news: int = 0
    state: NodeState | None = None
    """As at the last look."""

    @property
    def told(self) -> Mapping[str, Any]:
        """What holds of it now; empty where nothing does."""
        return self.now if self.now is not None and self.heard is not None else {}


class Joined:
    """The nodes of one relay, as who looks at them knows them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._nodes = {name: _Node() for name in names}
        self._most = MOST // max(1, len(names))
        self._before: _Counts = {}
        """Counts of processes that have ended since this began."""
        self._counted_anew = 0
        self._fresh: dict[str, _Row] = {}
        """Rows since the last look, and below, which have gone."""
        self._gone: set[str] = set()
        self._looked = False

    @property
    def rows(self) -> list[_Row]:
        """All peers of all nodes."""
        return [row for node in self._nodes.values() for row in node.rows.values()]

    @property
    def are_heard(self) -> bool:
        """Whether each has told how it is."""
        return all(node.heard is not None for node in self._nodes.values())

    def told(self, name: str, kind: str, data: Any, now: float) -> None:
        """A node has told something, as it does a page."""
        node = self._nodes[name]
        match kind:
            case "start":
                node.stale |= set(node.rows)
            case "rows":
                for row in data:
                    self._take_row(name, node, row)
            case "change":
                self._drop(node, [_key(name, str(one)) for one in data["gone"]])
                self._drop(node, node.stale)
                node.stale.clear()
                self._take_news(name, node, data["news"], data["more_news"])
                self._count(node, data["now"])
                node.heard = now
            case _:
                pass  # What this page does not show.

    def ended(self, name: str) -> None:
        """A node tells no more: it has ended, or nobody can reach it."""
        node = self._nodes[name]
        node.heard = None
        node.stale.clear()
        self._drop(node, list(node.rows))

    def look(self, now: float, here: Collection[str], own: Mapping[str, Any]) -> Change:
        """Return what has changed since the last look. `here` are the nodes whose process serves,
        `own` is what the relay as a whole says of itself."""
        change = Change(is_first=not self._looked)
        self._looked = True
        change.rows, self._fresh = list(self._fresh.values()), {}
        change.gone, self._gone = sorted(self._gone), set()
        for name, node in self._nodes.items():
            self._judge(name, node, now, name in here, change)
        for one in _by_turns(node.news for node in self._nodes.values()):
            words = dict(one)
            change.tell(words.pop("kind"), **words)
        change.more_news += sum(node.more_news for node in self._nodes.values())
        for node in self._nodes.values():
            node.news.clear()
            node.more_news = 0
        change.now = self._now(now) | dict(own)
        return change

    # -- inside ---------------------------------------------------------------------------------

    def _take_row(self, name: str, node: _Node, row: _Row) -> None:
        key = _key(name, str(row["id"]))
        if key not in node.rows and len(node.rows) >= self._most:
            return
        row = {**row, "key": key, "node": name}
        node.stale.discard(key)
        if node.rows.get(key) == row:
            return
        node.rows[key] = self._fresh[key] = row
        self._gone.discard(key)

    def _drop(self, node: _Node, keys: Iterable[str]) -> None:
        for key in keys:
            if node.rows.pop(key, None) is not None:
                self._fresh.pop(key, None)
                self._gone.add(key)

    @staticmethod
    def _take_news(name: str, node: _Node, news: Sequence[_Row], more: int) -> None:
        told = [one for one in news if one["kind"] not in _OF_ONE]
        room = max(0, MOST_NEWS - len(node.news))
        node.news.extend({**one, "node": name} for one in told[:room])
        node.more_news += more + len(told[room:])

    def _count(self, node: _Node, now: Mapping[str, Any]) -> None:
        """Counts only grow: what a process has counted that has ended is kept."""
        if node.now is None:
            self._counted_anew += 1
        elif node.now["started"] != now["started"]:
            _add(self._before, _counts(node.now))
        node.now = now

    @staticmethod
    def _judge(name: str, node: _Node, now: float, is_here: bool, change: Change) -> None:
        if not is_here:
            state = NodeState.AWAY
        elif node.heard is None or now - node.heard >= SILENT:
            state = NodeState.SILENT
        else:
            state = NodeState.SERVES
        was, node.state = node.state, state
        if was is None or was is state:
            return
        ended = "node left" if state is NodeState.AWAY else "node came"
        change.tell(_NEWS.get((was, state), ended), node=name)

    def _now(self, now: float) -> dict[str, Any]:
        counts: _Counts = {(name,): 0 for name in _PLAIN} | dict.fromkeys(_ANSWERS, 0)
        _add(counts, self._before)
        for node in self._nodes.values():
            if node.now is not None:
                _add(counts, _counts(node.now))
        told = [node.told for node in self._nodes.values() if node.told]
        named: dict[str, dict[str, float]] = {kind: {} for kind in _NAMED}
        for key, count in counts.items():
            if key[0] in named:
                named[key[0]][key[1]] = count
        return {
            "at": now,
            "counted_anew": self._counted_anew,
            "present": sum(one["present"] for one in told),
            "shown": sum(len(node.rows) for node in self._nodes.values()),
            "requests": [
                {"mode": key[1], "outcome": key[2], "count": count}
                for key, count in counts.items()
                if key[0] == "requests"
            ],
            **{name: counts[(name,)] for name in _PLAIN},
            **named,
            "lag": max((one["lag"] for one in told), default=0.0),
            "answers": [counts[key] for key in _ANSWERS],
            "gauges": _gauges(told),
            "memory": sum(one["memory"] or 0 for one in told) or None,
            "descriptors": sum(one["descriptors"] or 0 for one in told) or None,
            "max_descriptors": sum(one["max_descriptors"] or 0 for one in told) or None,
            "planes": self._planes(),
            "nodes": [_shown(name, node, now) for name, node in self._nodes.items()],
            "of_all": True,
        }

    def _planes(self) -> list[_Row]:
        found = [
            {**plane, "node": name}
            for name, node in self._nodes.items()
            for plane in node.told.get("planes", ())
        ]
        found.sort(key=lambda plane: plane["there"] + plane["back"], reverse=True)
        return found[:MOST_PLANES]


def _key(name: str, short: str) -> str:
    """A peer that goes from one node to another is at both for a moment."""
    return f"{name}/{short}"


def _counts(now: Mapping[str, Any]) -> _Counts:
    counts: _Counts = {(name,): now[name] for name in _PLAIN}
    for kind in _NAMED:
        counts |= {(kind, name): count for name, count in now[kind].items()}
    for one in now["requests"]:
        counts["requests", one["mode"], one["outcome"]] = one["count"]
    counts |= zip(_ANSWERS, now["answers"], strict=True)
    return counts


_T = TypeVar("_T")


def _add(counts: dict[_T, float], more: Mapping[_T, float]) -> None:
    for name, count in more.items():
        counts[name] = counts.get(name, 0) + count


def _gauges(told: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {name: {} for name in _SUMMED}
    for one in told:
        for name in _SUMMED:
            _add(found[name], one["gauges"].get(name, {}))
    return found


def _shown(name: str, node: _Node, now: float) -> _Row:
    told = node.told
    gauges = told.get("gauges", {})
    return {
        "name": name,
        "state": node.state,
        "heard": None if node.heard is None else max(0.0, now - node.heard),
        "started": told.get("started"),
        "peers": told.get("present", 0),
        "connections": gauges.get("connections_open", {}).get("all", 0),
        "planes": gauges.get("planes_open", {}).get("joined", 0),
        "memory": told.get("memory"),
        "lag": told.get("lag", 0.0),
    }


def _by_turns(news: Iterable[Sequence[_Row]]) -> Iterable[_Row]:
    """Return news of each node in turn: where there is not room for all, each has its share."""
    return (one for one in chain.from_iterable(zip_longest(*news)) if one is not None)
