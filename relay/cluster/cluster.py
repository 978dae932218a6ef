"""A relay as one node of a cluster: the directory of who is where, kept by what nodes say over
NATS, and requests to peers at other nodes.

What a request leads to where its peer is, and what a peer's move means here, is decided by who
is told the news (`members.py`).
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from time import time, time_ns

from protocol.dns_records import parse_zone
from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import MAX_NODES, RelayNode, ServiceResponse
from relay.backplane import (
    LOST,
    Answered,
    Asked,
    AskedHere,
    Came,
    Claim,
    Directory,
    Foreign,
    Known,
    Naming,
    News,
    NodeLost,
    NodeMessage,
    NodeNow,
    Outranked,
    PeerHere,
    Question,
    Say,
    Seal,
    TellAll,
    Went,
    WentElsewhere,
    tag_of,
)
from relay.broker import Broker
from relay.cluster.bucket import Bucket
from relay.cluster.letters import ClusterStore
from relay.cluster.link import Link, LinkLost
from relay.cluster.members import Members
from relay.cluster.servers import check_wanted
from relay.cluster.zone import ZONE, ZoneUpdates
from relay.config import RelayConfig
from relay.log import guarded, log
from relay.mailbox import Spawn
from relay.metrics import Metrics
from relay.presence import Presence

__all__ = ["Cluster"]

_BEAT = 1.0
"""Seconds between two beats."""
_SETTLING = 0.5
"""Seconds after a connection in which the others have answered that they are there, as they do at
once: until then nobody can say for sure that a peer is nowhere."""
_AGAIN = 0.5
"""Seconds until the next connection is tried, and a random part of as much more."""
_GRACE = 2.0
"""Seconds for which an answer may be late: the time of the request ends at the peer's home."""
_TRIES = 3
"""Nodes that one request is sent to while its peer moves."""
_NUMBERS = 2**32 - 1
_COMPLAINING = 60.0
"""Seconds between two words in the log about what others say on our subjects."""

Tell = Callable[[News], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    question: Question
    number: int
    node: str
    deadline: float
    tries: int = 1


class Cluster:
    """The cluster as one node has it. Run `serve` as long as the relay serves."""

    def __init__(
        self,
        config: RelayConfig,
        identity: Identity,
        metrics: Metrics,
        clock: Callable[[], float],
        *,
        shares_port: bool = False,
    ) -> None:
        """With `shares_port`, the nodes are processes of one machine at one port: none has an
        address of its own for peers, and each leads legs to the others."""
        if config.cluster is None:
            raise ValueError("a cluster has a configuration")
        own = self._config = config.cluster
        self._relay_config = config
        self.node = own.node
        self.naming = Naming(parse_zone(config.dns.zone) if config.dns is not None else "", time)
        """What it says of the zone."""
        self.directory = Directory(own.node, time_ns(), own.all_urls, own.weight, self.naming)
        self.seal = Seal(identity)
        self._shares_port = shares_port
        self._metrics = metrics
        self._clock = clock
        self._link = Link(own, config.in_state)
        self._waiting: dict[int, _Waiting] = {}
        self._numbers_of: dict[Question, int] = {}
        self._numbers = count(random.getrandbits(31))
        self._opened = float("inf")
        """When the connection that is up was."""
        self._is_ready = False
        """Whether all others have told what they claim, once since then."""
        self.has_learned = False
        """Whether they ever have."""
        self._nodes: tuple[RelayNode, ...] | None = None
        """As peers are told; None where a node may have come, gone or changed since: making it
        takes 10 µs for each, and each registration says it."""
        self._state = ""
        """What was logged of it last."""
        self._complained = float("-inf")
        self.changed = asyncio.Event()
        """Set whenever it may be in the cluster, or out of it, since."""

    # -- what the relay wants -------------------------------------------------------------------

    def refusal(self, now: float) -> str | None:
        if self.directory.has_namesake(now):
            return f"another node has the name {self.node}"
        if not self._link.is_up or now - self.directory.heard_self >= LOST:
            return "there is no connection to the other nodes"
        if not self._is_ready:
            return "it has just come, and does not know yet who is where"
        return None

    @property
    def is_in(self) -> bool:
        """Whether other nodes can be asked now."""
        return self.refusal(self._clock()) is None

    @property
    def names(self) -> bool:
        """Whether others are told what the zone shows of a peer."""
        return bool(self.naming.zone)

    def home(self, guid: str) -> Claim | None:
        return self.directory.home(guid)

    def url_of(self, node: str) -> str:
        return "" if self._shares_port else self.inner_url_of(node)

    def nodes(self) -> tuple[RelayNode, ...]:
        if self._nodes is None:
            found = [] if self._shares_port else self.directory.open_nodes()
            if len(found) > MAX_NODES:
                # Others each time, and this one.
                found = [found[0], *random.sample(found[1:], MAX_NODES - 1)]
            self._nodes = tuple(RelayNode(url, weight) for url, weight in found)
        return self._nodes

    def leave(self) -> tuple[str, ...]:
        """This node drains: tell the others, and return where its peers may go."""
        self.directory.leaves, self._nodes = True, None
        self._say_all(self.directory.beat())
        return tuple(node.url for node in self.nodes()) if self.is_in else ()

    def inner_url_of(self, node: str) -> str:
        """Return where the other nodes reach one."""
        return next(iter(self.directory.nodes.get(node, ())), "")

    def came(self, peer: PeerHere) -> None:
        self._say_all(self.directory.came(peer))

    def went(self, gone: WentElsewhere) -> None:
        if (message := self.directory.went(gone)) is not None:
            self._say_all(message)

    def ask(self, question: Question, now: float) -> bool:
        if reason := self.refusal(now):
            self._metrics.cluster["request failed"] += 1
            question.answered(_unavailable(f"the relay's cluster cannot be asked: {reason}"))
            return True
        claim = self.directory.home(question.request.guid)
        if claim is None:
            return False
        number = next(self._numbers) & _NUMBERS
        while number in self._waiting:
            number = next(self._numbers) & _NUMBERS
        deadline = now + question.request.timeout + _GRACE
        waiting = _Waiting(question, number, claim.node, deadline)
        self._waiting[number] = waiting
        self._numbers_of[question] = number
        self._send(waiting)
        return True

    def drop(self, question: Question) -> None:
        number = self._numbers_of.pop(question, None)
        if number is not None:
            del self._waiting[number]

    def letters(self, clock: Callable[[], float], spawn: Spawn) -> ClusterStore:
        """Return where the letters of all nodes are. `clock` gives Unix time."""
        return ClusterStore(self._relay_config, self.seal, self.wakes, clock, spawn)

    def zone_updates(self, clock: Callable[[], float]) -> ZoneUpdates:
        """Return where what updates register in the zone is, of all nodes."""
        return ZoneUpdates(Bucket(self._relay_config, self.seal, ZONE), self.naming, clock)

    def bucket(self) -> Bucket:
        """Return what the operator has said at any node."""
        return Bucket(self._relay_config, self.seal)

    def wakes(self, guid: str) -> bool:
        """Return whether it is this node that says who has mail, of this peer: the one that it is
        at; of one that is nowhere, the same of all that are there, by chance."""
        if self.directory.home(guid) is not None:
            return False
        if self.directory.is_here(guid):
            return True

        def lot(node: str) -> bytes:
            return blake2b(f"{node} {guid}".encode(), digest_size=8).digest()

        return all(lot(self.node) >= lot(node) for node in self.directory.nodes)

    def url(self) -> str:
        """Return where peers reach this node, and no other one; empty where they cannot."""
        if self._shares_port:
            return ""
        return self.directory.urls[0] if self.directory.urls else ""

    def counts(self) -> dict[str, int]:
        """Return how many nodes are there, this one too, and how many peers are at any of them."""
        return {"nodes": len(self.directory.nodes) + 1, "peers": len(self.directory)}

    def nodes_now(self) -> list[NodeNow]:
        """Return the nodes as they are known here, this one first."""
        return self.directory.nodes_now(self._clock(), is_in=self.is_in)

    def node_of(self, ticket: str) -> tuple[str, ...]:
        """Return where the node is reached whose plane a ticket is for, if that is another one."""
        return self.directory.nodes.get(self.name_of(ticket), ())

    def name_of(self, ticket: str) -> str:
        """Return the name of that node; empty where it is this one, or has gone."""
        for node in self.directory.nodes:
            if ticket.startswith(tag_of(node)) and node != self.node:
                return node
        return ""

    def origin(self, ticket: str, host: str) -> str:
        """Return the proof that the bearer of a ticket has come to a node from an address."""
        return self.seal.origin(ticket, host)

    # -- serving --------------------------------------------------------------------------------

    async def serve(self, urls: tuple[str, ...], presence: Presence, broker: Broker) -> None:
        """Be in the cluster as long as the relay serves, at `urls` where nothing else is
        configured."""
        self.directory.urls, self._nodes = self.directory.urls or urls, None
        tell = Members(presence, broker, self.url, self._clock).hear
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_time(tell))
            while True:
                reason = "it has failed"
                with guarded("keeping the connection to NATS"):
                    try:
                        await self._link.run(
                            (self._all, self._to(self.node), f"{self._none}.*"),
                            lambda subject, data, nobody: self._receive(
                                subject, data, nobody, tell
                            ),
                            self._came_in,
                        )
                    except LinkLost as error:
                        reason = error.reason
                check_wanted()
                self._lost(reason)
                await asyncio.sleep(_AGAIN * (1 + random.random()))

    async def _keep_time(self, tell: Tell) -> None:
        before = self._clock()
        while True:
            await asyncio.sleep(_BEAT)
            now = self._clock()
            if now - self.directory.heard_self > 2 * _BEAT or now - before > 2 * _BEAT:
                # Nobody is heard, this node itself neither: or what was said is still to be read.
                self.directory.silent(now - before)
            before = now
            with guarded("looking at the cluster"):
                self._look(now, tell)

    def _look(self, now: float, tell: Tell) -> None:
        if self.directory.has_namesake(now):
            self._note(now)
            self._fail_all("another node has this one's name")
            return
        self._say_all(self.directory.beat())
        for event in self.directory.time(now):
            self._follow(event, tell)
        for waiting in [one for one in self._waiting.values() if one.deadline <= now]:
            self._end(waiting, _unavailable(f"node {waiting.node} did not answer in time"))
        if now - self.directory.heard_self >= LOST and now - self._opened >= LOST:
            self._link.end()
        self._note(now)

    def _came_in(self) -> tuple[str, bytes]:
        self._opened, self._is_ready = self._clock(), False
        self._say_all(self.directory.beat(is_new=True))
        asyncio.get_running_loop().call_later(_SETTLING, self._settle)
        return self._all, self.seal.close(self._all, self.directory.bye())

    def _settle(self) -> None:
        with guarded("looking at the cluster"):
            self._note(self._clock())

    def _lost(self, reason: str) -> None:
        self._opened, self._is_ready = float("inf"), False
        self._fail_all("the connection to the other nodes was lost")
        self._note(self._clock(), reason)

    def _note(self, now: float, reason: str = "") -> None:
        """Say in the log, once, how this node stands in its cluster."""
        if not self._is_ready and now - self._opened >= _SETTLING and self.directory.is_whole:
            self._is_ready = self.has_learned = True
        if self._link.is_up and not self._is_ready and not self.directory.has_namesake(now):
            return  # It has just come.
        refusal = self.refusal(now)
        state = "in" if refusal is None else reason or self._state or refusal
        if refusal is not None and self.directory.has_namesake(now):
            state = refusal
        if state == self._state:
            return
        self._state = state
        if refusal is None:
            log.info("in the cluster", node=self.node, nodes=len(self.directory.nodes) + 1)
        else:
            log.warning("not in the cluster", node=self.node, reason=state)
        self.changed.set()

    # -- what is heard --------------------------------------------------------------------------

    def _receive(self, subject: str, data: bytes, nobody: bool, tell: Tell) -> None:
        with guarded("reading what a node has said"):
            if nobody:
                self._nobody(subject)
                return
            try:
                message = self.seal.open(subject, data)
            except Foreign as error:
                self._complain(str(error))
                return
            now = self._clock()
            match message:
                case Asked() | Answered() if message.node == self.node:
                    return
                case Asked():
                    self._asked(message, tell)
                case Answered():
                    self._answered(message, now)
                case _:
                    if not isinstance(message, Came | Went | Known):
                        self._nodes = None
                    for event in self.directory.hear(message, now):
                        self._follow(event, tell)
                    if not self._is_ready:
                        self._note(now)
                    self.changed.set()

    def _follow(self, event: object, tell: Tell) -> None:
        match event:
            case Say(node, message):
                if not isinstance(message, Answered):
                    self._metrics.cluster["asked for all"] += 1
                self._say(node, message)
            case TellAll(node):
                for piece in self.directory.all_claims():
                    self._say(node, piece)
            case NodeLost(node):
                self._nodes = None
                log.info("a node has gone", node=node)
                for waiting in [one for one in self._waiting.values() if one.node == node]:
                    self._end(waiting, _unavailable(f"node {node} has gone"))
            case Outranked():
                self._metrics.cluster["outranked"] += 1
                tell(event)
            case _:
                tell(event)  # type: ignore[arg-type]

    def _asked(self, asked: Asked, tell: Tell) -> None:
        if self.directory.has_namesake(self._clock()):
            return  # It is for that one.
        self._metrics.cluster["asked here"] += 1

        def answer(response: ServiceResponse) -> None:
            home = ""
            if response.code in (Code.PEER_OFFLINE, Code.UNKNOWN_PEER):
                claim = self.directory.home(asked.request.guid)
                home = claim.node if claim is not None else ""
            number, me = asked.number, self.directory.beat()
            self._say(asked.node, Answered(me.node, me.incarnation, number, response, home))

        tell(AskedHere(asked, answer))

    def _answered(self, answered: Answered, now: float) -> None:
        waiting = self._waiting.get(answered.number)
        if waiting is None or waiting.node != answered.node:
            return
        if not self.directory.is_said_by(answered.node, answered.incarnation):
            return  # By another one of its name, which is asked too.
        home = answered.home
        if home in self.directory.nodes and waiting.tries < _TRIES and now < waiting.deadline:
            waiting.node, waiting.tries = home, waiting.tries + 1
            self._send(waiting)
            return
        self._end(waiting, answered.response)

    def _nobody(self, subject: str) -> None:
        number = subject.rpartition(".")[2]
        waiting = self._waiting.get(int(number)) if number.isdecimal() else None
        if waiting is not None:
            reason = f"node {waiting.node} is not connected to the others now"
            self._end(waiting, _unavailable(reason))

    # -- inside ---------------------------------------------------------------------------------

    def _send(self, waiting: _Waiting) -> None:
        question, beat = waiting.question, self.directory.beat()
        url = self.url() if question.ticket is not None else ""
        self._metrics.cluster["asked"] += 1
        asked = Asked(
            beat.node,
            beat.incarnation,
            waiting.number,
            question.caller,
            question.host,
            question.request,
            question.ticket,
            url,
            question.port,
            question.offers,
        )
        if not self._say(waiting.node, asked, f"{self._none}.{waiting.number}"):
            self._end(waiting, _unavailable("the connection to the other nodes was lost"))

    def _end(self, waiting: _Waiting, response: ServiceResponse) -> None:
        if self._waiting.pop(waiting.number, None) is None:
            return
        del self._numbers_of[waiting.question]
        if response.code is Code.CLUSTER_UNAVAILABLE:
            self._metrics.cluster["request failed"] += 1
        with guarded("answering for another node"):
            waiting.question.answered(response)

    def _fail_all(self, reason: str) -> None:
        for waiting in list(self._waiting.values()):
            self._end(waiting, _unavailable(reason))

    def _say_all(self, message: NodeMessage) -> None:
        if not self.directory.has_namesake(self._clock()):
            self._link.say(self._all, self.seal.close(self._all, message))

    def _say(self, node: str, message: NodeMessage, nobody: str = "") -> bool:
        subject = self._to(node)
        return self._link.say(subject, self.seal.close(subject, message), nobody)

    def _complain(self, reason: str) -> None:
        self._metrics.cluster["foreign"] += 1
        if (now := self._clock()) - self._complained >= _COMPLAINING:
            self._complained = now
            log.warning("a foreign message on the cluster's subjects", reason=reason)

    @property
    def _all(self) -> str:
        return f"{self._config.prefix}.1.all"

    @property
    def _none(self) -> str:
        return f"{self._config.prefix}.1.none.{self.node}"

    def _to(self, node: str) -> str:
        return f"{self._config.prefix}.1.node.{node}"


def _unavailable(reason: str) -> ServiceResponse:
    return ServiceResponse(0, Code.CLUSTER_UNAVAILABLE, reason, retry_after=1.0)
