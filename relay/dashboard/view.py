"""What the dashboard shows of a relay: who is here, who talks with whom and by which way, and what
has changed since the last look.

It looks at what others hold anyway: the relay does nothing for it while nobody looks. GUIDs are
shortened; an address is shown only where the operator has chosen so, else its network has a number
that says nothing, which changes with each start.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from os import urandom
from typing import Any

from protocol.text import shown
from relay.backplane import NodeNow
from relay.config import RelayConfig, Siblings
from relay.limits import cause_of
from relay.metrics import Metrics, RequestTold
from relay.plane import Planes
from relay.presence import RegisteredPeer, Registry
from relay.process import build_info, process_now

__all__ = ["MOST", "MOST_NEWS", "MOST_PLANES", "Change", "Shows", "View"]

MOST = 10_000
"""Peers that are shown one by one; of more the page has the number."""
_AT_ONCE = 25
"""Peers that are looked at before others have their turn: some 0.5 ms where all are new."""
MOST_PLANES = 100
"""Planes that are shown, those with most bytes first."""
MOST_NEWS = 20
"""News of one look; of more the page has the number."""
_GUID = 12
"""Characters of a GUID that are shown: 60 bits."""
_MOST_SERVICES = 8
"""Services of one peer that are shown."""
_LONGEST = 64
"""Characters of a service's name that are shown."""


@dataclass(frozen=True, slots=True)
class Shows:
    """What of a relay is shown, and how."""

    secret: bytes
    """The numbers of networks are made from it."""
    with_addresses: bool = False
    most: int = MOST
    """Peers that are shown one by one."""

    @classmethod
    def of(cls, config: RelayConfig, siblings: Siblings | None = None) -> "Shows":
        """Return it for one relay. The secret is new at each start; processes that are one relay
        have one together, and their shares of the peers that are shown."""
        if siblings is None or not siblings.secret:
            return cls(urandom(32), config.dashboard_addresses)
        return cls(siblings.secret, config.dashboard_addresses, MOST // siblings.nodes)


@dataclass(slots=True)
class _Known:
    """A peer as it was at the last look."""

    peer: RegisteredPeer
    hosts: frozenset[str]
    record: object
    flows: int
    row: dict[str, Any]
    moves: int = 0


@dataclass(slots=True)
class Change:
    """What one look has found."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of peers that are new, or not as they were."""
    gone: list[str] = field(default_factory=list)
    now: dict[str, Any] = field(default_factory=dict)
    news: list[dict[str, Any]] = field(default_factory=list)
    more_news: int = 0
    is_first: bool = False

    def tell(self, kind: str, **words: Any) -> None:
        """Add news, as far as there is room."""
        if len(self.news) < MOST_NEWS:
            self.news.append({"kind": kind, **words})
        else:
            self.more_news += 1


class View:
    """One relay as its operator sees it."""

    def __init__(
        self,
        relay: tuple[Registry, Planes, Metrics],
        shows: Shows,
        nodes: Callable[[], Sequence[NodeNow]] = tuple,
    ) -> None:
        """`nodes` tells of the relays that are one with this one, itself among them; none where it
        is alone."""
        self._registry, self._planes, self._metrics = relay
        self._shows = shows
        self._nodes = nodes
        self._names: frozenset[str] = frozenset()
        """The nodes of the last look."""
        self._known: dict[str, _Known] = {}
        self._looked = False
        self._asked: deque[RequestTold] | None = None
        self.change = Change()
        """What the last look has found."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All peers, as they were at the last look."""
        return [known.row for known in self._known.values()]

    async def ready(self) -> None:
        """Wait until there is something to look at: there always is."""

    def begin(self) -> None:
        """Somebody looks from now on."""
        self._asked = self._metrics.asked = deque(maxlen=4 * MOST_NEWS)

    def end(self) -> None:
        """Nobody looks any more."""
        self._asked = self._metrics.asked = None
        self._looked = False
        self._known.clear()
        self.change = Change()

    def looking(self, now: float) -> Iterator[None]:
        """Look once; others may have their turn at each step."""
        change = Change(is_first=not self._looked)
        self._looked = True
        present, most = self._registry.present(), self._shows.most
        for number, peer in enumerate(present[:most], 1):
            self._look_at(peer, change)
            if number % _AT_ONCE == 0:
                yield
        if len(self._known) > min(len(present), most):
            here = {peer.guid for peer in present[:most]}
            for guid in [guid for guid in self._known if guid not in here]:
                del self._known[guid]
                change.gone.append(_short(guid))
                change.tell("left", who=_short(guid))
        yield
        for told in self._taken():
            change.tell(
                "asked",
                who=_short(told.caller),
                whom=_short(told.callee),
                service=_text(told.service),
                mode=told.mode,
                outcome=told.outcome,
            )
        change.now = self._now(now, len(present))
        change.now["nodes"] = self._cluster(change)
        change.now["planes"] = yield from self._joined(now)
        self.change = change

    def _look_at(self, peer: RegisteredPeer, change: Change) -> None:
        known = self._known.get(peer.guid)
        if (
            known is not None
            and known.peer is peer
            and known.hosts is peer.observed_hosts
            and known.record is peer.record
            and known.flows == len(peer.flows)
        ):
            return
        moves = known.moves if known is not None else 0
        has_moved = known is not None and known.hosts != peer.observed_hosts
        if known is not None and has_moved:
            moves += 1
        row = self._row(peer, moves)
        if known is None and not change.is_first:
            change.tell("came", who=row["id"], networks=row["networks"])
        elif known is not None and has_moved:
            change.tell("moved", who=row["id"], networks=row["networks"], was=known.row["networks"])
        self._known[peer.guid] = _Known(
            peer, peer.observed_hosts, peer.record, len(peer.flows), row, moves
        )
        if known is None or known.row != row:
            change.rows.append(row)

    def _row(self, peer: RegisteredPeer, moves: int) -> dict[str, Any]:
        services = sorted(peer.services)
        return {
            "id": _short(peer.guid),
            "services": [_text(name) for name in services[:_MOST_SERVICES]],
            "more": max(0, len(services) - _MOST_SERVICES),
            "networks": sorted(map(self._network, peer.observed_hosts)) or ["not observed"],
            "connections": len(peer.flows),
            "moves": moves,
        }

    def _network(self, host: str) -> str:
        if self._shows.with_addresses:
            return shown(host)
        network = cause_of(host).network.encode()
        return (
            "network " + hashlib.blake2s(network, key=self._shows.secret, digest_size=4).hexdigest()
        )

    def _taken(self) -> list[RequestTold]:
        asked = self._asked
        if asked is None:
            return []
        taken = list(asked)
        asked.clear()
        return taken

    def _cluster(self, change: Change) -> list[dict[str, Any]]:
        nodes = self._nodes()
        names = frozenset(node.name for node in nodes)
        if not change.is_first:
            for name in sorted(names - self._names):
                change.tell("node came", node=_text(name))
            for name in sorted(self._names - names):
                change.tell("node left", node=_text(name))
        self._names = names
        return [
            {"name": _text(one.name), "peers": one.peers, "heard": one.heard, "in": one.is_in}
            for one in nodes
        ]

    def _joined(self, now: float) -> Generator[None, None, list[dict[str, Any]]]:
        """Yield while the planes are looked at; return those with most bytes."""
        found: list[tuple[int, dict[str, Any]]] = []
        for number, (purpose, moved, since) in enumerate(self._planes.joined(), 1):
            found.append(
                (
                    -sum(moved),
                    {
                        "caller": _short(purpose.caller),
                        "callee": _short(purpose.callee),
                        "service": _text(purpose.service),
                        "mode": purpose.mode.value,
                        "there": moved[0],
                        "back": moved[1],
                        "seconds": round(now - since),
                    },
                )
            )
            if number % _AT_ONCE == 0:
                yield
        found.sort(key=lambda one: one[0])
        return [row for _, row in found[:MOST_PLANES]]

    def _now(self, now: float, present: int) -> dict[str, Any]:
        metrics, process = self._metrics, process_now()
        requests = [
            {"mode": mode, "outcome": outcome, "count": count}
            for (mode, outcome), count in metrics.requests.items()
        ]
        gauges = {name: dict(read()) for name, read in metrics.gauges.items()}
        return {
            "at": now,
            "version": build_info()["version"],
            "present": present,
            "shown": min(present, self._shows.most),
            "requests": requests,
            "messages_in": metrics.messages_in,
            "messages_out": metrics.messages_out,
            "plane_bytes": metrics.plane_bytes,
            "limited": dict(metrics.limited),
            "refusals": dict(metrics.refusals.items()),
            "proofs": dict(metrics.proofs),
            "lag": metrics.loop.lag,
            "answers": metrics.answers.total,
            "gauges": gauges,
            "cpu": process.cpu_seconds,
            "memory": process.resident_bytes,
            "descriptors": process.descriptors,
            "max_descriptors": process.max_descriptors,
            "started": process.started,
        }


def _short(guid: str) -> str:
    return shown(guid[:_GUID])


def _text(text: str) -> str:
    """What strangers have written, with nothing in it that acts on what shows it."""
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return shown(cut)
