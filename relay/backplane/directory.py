"""At which node of a cluster each peer is, as one node knows it.

PURE: what is heard and when goes in, what it means comes out.

Rule 1: a peer is where the claim with the highest record number says; of equal ones the higher
instance, then the higher name of the node. No clock is asked and no order is kept, so every node
comes to the same, in whichever order it hears.
Rule 2: a node counts what it announces. Who misses a number asks that node for all of it; so does
who has never heard of it.
Rule 3: a node that was not heard for `LOST` seconds is lost, with all that it has claimed. What it
says later is new.
Rule 4: of two that run under one name the one that has begun later has it. The other steps back
until it hears no more of that one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from relay.backplane.events import (
    CameElsewhere,
    Event,
    NodeLost,
    NodeNow,
    Outranked,
    PeerHere,
    Say,
    TellAll,
    WentElsewhere,
)
from relay.backplane.messages import (
    Beat,
    Bye,
    Came,
    Claim,
    Known,
    NodeMessage,
    Tell,
    Went,
    pieces,
)
from relay.backplane.naming import Naming

__all__ = ["LOST", "Directory"]

LOST = 3.0
"""Seconds after which a node that says nothing is taken for lost: three beats."""
STEPPED_BACK = 10.0
"""Seconds for which a node keeps silent after another one of its name was heard."""
_ASK_AGAIN = 2.0
"""Seconds for an answer to begin and to go on, when all was asked for."""


@dataclass(slots=True)
class _Sync:
    """All that a node claims is being told."""

    asked: float
    """When; or when the last piece came."""
    came: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    """Who has gone meanwhile: a piece may be older."""
    heard: set[int] = field(default_factory=set)
    """The numbers of what was announced meanwhile."""


@dataclass(slots=True)
class _Node:
    """Another node."""

    name: str
    incarnation: int
    heard: float
    sync: _Sync | None
    serial: int = 0
    """Of what it has announced, up to which nothing was missed."""
    urls: tuple[str, ...] = ()
    weight: int = 100
    leaves: bool = False
    zone: str = ""
    claims: dict[str, Claim] = field(default_factory=dict)


class Directory:
    """The directory of one node. `now` is any clock that only grows."""

    def __init__(
        self,
        node: str,
        incarnation: int,
        urls: tuple[str, ...] = (),
        weight: int = 100,
        naming: Naming | None = None,
    ) -> None:
        self._node = node
        self._incarnation = incarnation
        self.urls = urls
        self._weight = weight
        self._naming = naming or Naming("", lambda: 0.0)
        self.leaves = False
        """Whether this node drains."""
        self._serial = 0
        self._own: dict[str, Claim] = {}
        self._homes: dict[str, Claim] = {}
        self._nodes: dict[str, _Node] = {}
        self.heard_self = float("-inf")
        """When the node heard its own beat last: only then is it in the cluster."""
        self._namesake_until = float("-inf")

    def __len__(self) -> int:
        """Return how many peers are known to be anywhere."""
        return len(self._homes)

    @property
    def nodes(self) -> dict[str, tuple[str, ...]]:
        """The other nodes that are there, and where peers reach each."""
        return {node.name: node.urls for node in self._nodes.values()}

    def open_nodes(self) -> list[tuple[str, int]]:
        """Return where peers reach each node that they may come to, and its weight; this one first,
        if it is such a one."""
        own = [] if self.leaves else [(self.urls[:1], self._weight)]
        others = sorted(self._nodes.values(), key=lambda node: node.name)
        open_ones = own + [(node.urls[:1], node.weight) for node in others if not node.leaves]
        return [(url, weight) for urls, weight in open_ones for url in urls if _is_one(url)]

    @property
    def is_whole(self) -> bool:
        """Whether each node that is there has told all."""
        return all(node.sync is None for node in self._nodes.values())

    def home(self, guid: str) -> Claim | None:
        """Return where a peer is, if that is another node."""
        claim = self._homes.get(guid)
        return None if claim is None or claim.node == self._node else claim

    def is_here(self, guid: str) -> bool:
        """Whether a peer is at this node, and no other one."""
        claim = self._homes.get(guid)
        return claim is not None and claim.node == self._node

    def is_said_by(self, node: str, incarnation: int) -> bool:
        """Whether this is the program that has a node's name, as far as is known here."""
        known = self._nodes.get(node)
        return known is not None and known.incarnation == incarnation

    def nodes_now(self, now: float, *, is_in: bool) -> list[NodeNow]:
        """Return this node, and then the others by name."""
        others = sorted(self._nodes.values(), key=lambda node: node.name)
        return [
            NodeNow(self._node, len(self._own), None, is_in),
            *(
                NodeNow(node.name, len(node.claims), max(0.0, now - node.heard), node.sync is None)
                for node in others
            ),
        ]

    def has_namesake(self, now: float) -> bool:
        """Whether another one runs under this node's name, and has it."""
        return now < self._namesake_until

    # -- what is said here ----------------------------------------------------------------------

    def beat(self, *, is_new: bool = False) -> Beat:
        """Return what is said every second."""
        return Beat(
            self._node,
            self._incarnation,
            self._serial,
            self.urls,
            is_new,
            self._weight,
            self.leaves,
            self._naming.zone,
            self._naming.serial if self._naming.zone else 0,
        )

    def bye(self) -> Bye:
        """Return what is said at the end."""
        return Bye(self._node, self._incarnation)

    def came(self, peer: PeerHere) -> Came:
        """A peer is registered here, or its record here has changed; return what is announced."""
        self._serial += 1
        guid = peer.guid
        claim = Claim(
            guid,
            peer.seq,
            peer.instance,
            self._node,
            self._serial,
            peer.host,
            peer.offers,
            peer.shown,
            peer.listed,
            peer.named,
        )
        self._naming.claimed(self._own.get(guid), claim)
        self._own[guid] = claim
        before = self._homes.get(guid)
        if before is None or before.node == self._node or claim.outranks(before):
            self._homes[guid] = claim
        return Came(self._node, self._incarnation, claim)

    def went(self, gone: WentElsewhere) -> Went | None:
        """A peer is not registered here any more; return what is announced."""
        own = self._own.pop(gone.guid, None)
        if own is None:
            return None
        self._naming.claimed(own, None)
        self._serial += 1
        self._choose(gone.guid)
        return Went(
            self._node,
            self._incarnation,
            self._serial,
            gone.guid,
            gone.seq,
            gone.instance,
            gone.ago,
            gone.closed,
            gone.shown,
            gone.host,
        )

    def all_claims(self) -> Iterator[Known]:
        """Return all that is claimed here, piece by piece; others may come and go between two."""
        serial, claims = self._serial, pieces(list(self._own.values()))
        piece: tuple[Claim, ...] | None = next(claims)
        while piece is not None:
            following = next(claims, None)
            yield Known(self._node, self._incarnation, serial, piece, following is None)
            piece = following

    # -- what is heard --------------------------------------------------------------------------

    def hear(self, message: NodeMessage, now: float) -> Iterator[Event]:
        """Take what a node says of itself and its peers; requests and answers are none of this."""
        if message.node == self._node:
            self._hear_name(message, now)
            return
        node = self._nodes.get(message.node)
        if node is not None and message.incarnation < node.incarnation:
            return  # Of a program that has ended.
        if isinstance(message, Bye):
            if node is not None:
                yield from self._lose(node, now)
            return
        if node is not None and message.incarnation > node.incarnation:
            yield from self._lose(node, now)
            node = None
        if node is None:
            node = _Node(message.node, message.incarnation, now, _Sync(now))
            self._nodes[node.name] = node
            yield self._tell(node)
        node.heard = max(node.heard, now)
        match message:
            case Beat():
                node.urls, node.weight = message.urls, message.weight
                node.leaves, node.zone = message.leaves, message.zone
                self._naming.heard(message.zone, message.zone_serial)
                yield from self._count(node, message.serial, now, is_beat=True)
                if message.is_new:
                    yield Say(node.name, self.beat())
            case Came():
                yield from self._take(node, message.claim)
                yield from self._count(node, message.claim.serial, now)
            case Went():
                yield from self._drop(node, message)
                yield from self._count(node, message.serial, now)
            case Known():
                yield from self._learn(node, message, now)
            case Tell():
                yield TellAll(node.name)
            case _:
                pass

    def time(self, now: float) -> Iterator[Event]:
        """Look at who is silent: call it every second."""
        for node in list(self._nodes.values()):
            if now - node.heard >= LOST:
                yield from self._lose(node, now)
            elif node.sync is not None and now - node.sync.asked >= _ASK_AGAIN:
                node.sync = _Sync(now)
                yield self._tell(node)

    def silent(self, seconds: float) -> None:
        """This node itself was away for so long: nobody was silent then."""
        for node in self._nodes.values():
            node.heard += seconds

    # -- inside ---------------------------------------------------------------------------------

    def _hear_name(self, message: NodeMessage, now: float) -> None:
        if message.incarnation == self._incarnation:
            self.heard_self = now
        elif message.incarnation > self._incarnation and not isinstance(message, Bye):
            self._namesake_until = now + STEPPED_BACK

    def _tell(self, node: _Node) -> Say:
        return Say(node.name, Tell(self._node, self._incarnation))

    def _count(
        self, node: _Node, serial: int, now: float, *, is_beat: bool = False
    ) -> Iterator[Event]:
        """Look whether anything was missed before this."""
        if node.sync is not None:
            if not is_beat:
                node.sync.heard.add(serial)
            return
        if serial == node.serial + (not is_beat):
            node.serial = serial
        elif serial > node.serial:
            node.sync = _Sync(now)
            yield self._tell(node)

    def _take(self, node: _Node, claim: Claim) -> Iterator[Event]:
        guid, known = claim.guid, node.claims.get(claim.guid)
        if claim.node != node.name or (known is not None and claim.serial <= known.serial):
            return
        if node.sync is not None:
            node.sync.gone.discard(guid)
            node.sync.came.add(guid)
        node.claims[guid] = claim
        before = self._homes.get(guid)
        if (
            before is not None
            and not claim.outranks(before)
            and (before.node != node.name or self._choose(guid) is not claim)
        ):
            return
        self._homes[guid] = claim
        own = self._own.get(guid)
        if own is not None and claim.outranks(own):
            yield Outranked(claim)
        yield CameElsewhere(claim)

    def _drop(self, node: _Node, gone: Went) -> Iterator[Event]:
        known = node.claims.get(gone.guid)
        if node.sync is not None:
            node.sync.gone.add(gone.guid)
        if known is None or gone.serial <= known.serial:
            return
        del node.claims[gone.guid]
        yield from self._left(
            known,
            WentElsewhere(
                gone.guid,
                gone.seq,
                gone.instance,
                gone.ago,
                gone.closed,
                gone.shown,
                gone.host,
            ),
        )

    def _left(self, claim: Claim, gone: WentElsewhere) -> Iterator[Event]:
        """A claim is over: say where its peer is now."""
        before = self._homes.get(claim.guid)
        if before is None or before.node != claim.node:
            return
        now_at = self._choose(claim.guid)
        if now_at is None:
            yield gone
        elif now_at.node != self._node:
            yield CameElsewhere(now_at)

    def _choose(self, guid: str) -> Claim | None:
        """Find anew where a peer is."""
        claims = [node.claims[guid] for node in self._nodes.values() if guid in node.claims]
        if guid in self._own:
            claims.append(self._own[guid])
        best = None
        for claim in claims:
            if best is None or claim.outranks(best):
                best = claim
        if best is None:
            self._homes.pop(guid, None)
        else:
            self._homes[guid] = best
        return best

    def _learn(self, node: _Node, known: Known, now: float) -> Iterator[Event]:
        sync = node.sync
        if sync is None:
            return
        sync.asked = now
        for claim in known.claims:
            sync.came.add(claim.guid)
            if claim.guid not in sync.gone:
                yield from self._take(node, claim)
        if not known.is_last:
            return
        stale = [
            claim
            for guid, claim in node.claims.items()
            if guid not in sync.came and claim.serial <= known.serial
        ]
        for claim in stale:
            del node.claims[claim.guid]
            yield from self._left(claim, _gone(claim, 0.0))
        later = {serial for serial in sync.heard if serial > known.serial}
        node.serial = known.serial + len(later)
        node.sync = None
        if later and max(later) != node.serial:
            node.sync = _Sync(now)
            yield self._tell(node)

    def _lose(self, node: _Node, now: float) -> Iterator[Event]:
        del self._nodes[node.name]
        yield NodeLost(node.name)
        if any(claim.named for claim in node.claims.values()):
            self._naming.changed()
        for claim in node.claims.values():
            yield from self._left(claim, _gone(claim, now - node.heard))


def _gone(claim: Claim, ago: float) -> WentElsewhere:
    """Return what is left of a claim whose end nobody has told."""
    return WentElsewhere(claim.guid, claim.seq, claim.instance, ago, False, claim.shown, claim.host)


def _is_one(url: str) -> bool:
    """Whether a URL is one node's: one that listens at all addresses, and was not told which are
    its own, is at none that anybody could be sent to."""
    return (urlsplit(url).hostname or "") not in ("", "::", "0.0.0.0")
