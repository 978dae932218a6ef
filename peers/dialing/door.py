"""The one door through which every connection of a peer goes: to another peer, and to a relay.

Who dials says why, for whom, and what is known; the door says no before there is a socket, or
connects, and learns what came of it. What is decided is in scopes.py and `protocol.dialing`.
"""

import asyncio
import contextlib
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

from peers.config import Dial, HostPort, PeerConfig, log
from peers.dialing.own_port import OwnPort
from peers.dialing.scopes import (
    Here,
    Known,
    Word,
    is_provable,
    node_refusal,
    refusal,
    server_refusal,
    word_of,
)
from peers.dialing.shares import MEETING, MEETINGS, QUESTION, QUESTIONS, SHARES
from peers.dialing.wishes import Ask, DialCounts, Leg, Node, Reason
from peers.host import Interfaces
from peers.tasks import Spawn
from peers.transport import (
    Address,
    Opened,
    RawStream,
    RelayAddress,
    dial,
    dial_from,
    open_tcp,
    open_upgraded,
    resolve,
)
from protocol.dialing import Attempt, Budgets, Outcome, outcome_of
from protocol.endpoint import Endpoint
from protocol.errors import (
    PathFailed,
    ProtocolViolation,
    RelayUnavailable,
    RoamRelayError,
    WrongIdentity,
)
from protocol.hosts import host_in

__all__ = ["DialRefused", "Door", "Passage"]

_HELD = 3.0
"""Seconds that a dial of a told endpoint takes at most, and no less where it fails or is refused:
two round trips by satellite and a lost packet. What is done next tells nobody what was there."""
_REPEATS = 1
"""How often a SYN is repeated that strangers have caused; a kernel that begins linearly does so
twice. With fresh sockets a silent host gets nine of one dial at most, whatever time that has."""
_MAX_AGAIN = 4
"""Dials that are made again at once, beside the one that has no answer: where all are slow, as this
host or the other one is busy, they are not made slower by it."""
_MEETING_TRIES = (0.2, 0.4, 0.8, 1.6)
"""Seconds for each SYN of a meeting, before a fresh one: one of both sides has to come when the
other has opened its way already."""
_MAX_RELAYS = 64
"""Addresses of relays, and of proxies, that are remembered; beyond it the one met first is
forgotten."""


class DialRefused(PathFailed):
    """This peer does not dial there: says which rule forbids it."""


class Passage:
    """One dial that the door lets pass."""

    def __init__(
        self,
        ask: Ask,
        again: Callable[[], AbstractContextManager[bool]],
        repeats: int | None = _REPEATS,
        is_met: bool = False,
    ) -> None:
        self._ask = ask
        self._repeats = repeats
        self.is_met = is_met
        """Whether the peer's key was met at this very endpoint before."""
        self.outcome = Outcome.CALLED_OFF
        self.again = again
        """Enter to dial once more beside the first, which has no answer; what it gives says whether
        that may be. It costs what another dial does, which is not given back."""

    async def connect(self, source: str | None, round_trip: float | None) -> RawStream:
        """Connect, from the local address `source` (None: the route's). `round_trip` is the usual
        one in seconds, None where none is known.

        Raises:
            OSError: as `dial`.
        """
        address = Address(self._ask.endpoint.host, self._ask.endpoint.port)
        try:
            dialed = await dial(
                address, source=source, round_trip=round_trip, repeats=self._repeats
            )
            return await open_tcp(dialed.connected)
        except OSError as error:
            self.outcome = outcome_of(error)
            raise


class Door:
    """Of one peer, which listens at `port`."""

    def __init__(self, config: PeerConfig, interfaces: Interfaces, port: int) -> None:
        self._config = config
        self._interfaces = interfaces
        self._listening = config.listen_hosts, port
        self._servers = _name_servers(config)
        self._budgets = Budgets(SHARES)
        self._questions = Budgets(QUESTIONS)
        self._meetings = Budgets(MEETINGS)
        self._relays: OrderedDict[Endpoint, None] = OrderedDict()
        self._proxies: OrderedDict[Endpoint, None] = OrderedDict()
        self._own_port = OwnPort(port)
        self._under_way: dict[tuple[str, Endpoint], asyncio.Event] = {}
        """Dials of endpoints where the peer was not met: one at a time. Others wait for its end."""
        self._made_again = 0
        """Dials that are made again just now."""
        self._dialed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    @property
    def counts(self) -> DialCounts:
        """What was dialed, and what was not."""
        return DialCounts(dict(self._dialed), dict(self._refused), dict(self._asked))

    @property
    def listening_port(self) -> int:
        """Where this peer listens, and from where it dials its relay as far as that can be."""
        return self._listening[1]

    def network_changed(self) -> None:
        """This host has moved."""
        self._budgets.network_changed()
        self._meetings.network_changed()

    def doubts(self, ask: Ask) -> bool:
        """Whether a dial would wait for what the relay says."""
        if ask.witness is None or self._budgets.has_met(ask.remote, ask.endpoint):
            return False
        return self._scope_refusal(ask) is not None and self._is_provable(ask)

    @contextlib.asynccontextmanager
    async def passing(self, ask: Ask) -> AsyncIterator[Passage]:
        """Let a dial pass, which must come to its end inside: with the peer's key met, or with an
        error.

        Raises:
            DialRefused: it is not dialed.
        """
        loop = asyncio.get_running_loop()
        came, key = loop.time(), (ask.remote, ask.endpoint)
        # Without a timeout: each dial that is waited for has one.
        while not self._budgets.has_met(*key) and key in self._under_way:
            await self._under_way[key].wait()
        if not self._budgets.has_met(*key):
            ask = await self._settled(ask)
        word = _word(ask, ask.caution or self._config.dial)
        attempt = _attempt(ask, word)
        reason = self._budgets.refusal(attempt, loop.time())
        if reason is not None:
            await self._hold(word, came)
            raise self._refusal(ask, reason)
        again = partial(self._again, ask, attempt)
        if self._budgets.has_met(*key):
            passage = Passage(ask, again, None, is_met=True)
            async with self._counted(ask, attempt, passage):
                yield passage
            return
        began = loop.time()
        over = self._under_way[key] = asyncio.Event()
        is_own_wish = attempt.wished and word is Word.RELAY
        passage = Passage(ask, again, None if is_own_wish else _REPEATS)
        try:
            async with self._counted(ask, attempt, passage):
                try:
                    yield passage
                finally:
                    del self._under_way[key]
                    over.set()
        except RoamRelayError:
            if passage.outcome is not Outcome.NOT_SENT:
                await self._hold(word, began)
            raise

    def patience(self, ask: Ask, timeout: float) -> float:
        """Return the seconds that a dial may take, where it may take `timeout` otherwise."""
        if self._budgets.has_met(ask.remote, ask.endpoint):
            return timeout
        told = _word(ask, ask.caution or self._config.dial) is Word.TOLD
        return min(timeout, _HELD) if told else timeout

    async def meet(self, ask: Ask, source: str) -> RawStream:
        """Dial from the listening port and the local address `source` where the other side dials
        this peer at the same time, some times within a few seconds.

        Raises:
            DialRefused: it is not dialed.
            PathFailed: nothing came of it.
        """
        loop = asyncio.get_running_loop()
        attempt = Attempt(ask.remote, ask.endpoint, MEETING)
        reason = self._scope_refusal(ask) or self._meetings.refusal(attempt, loop.time())
        if reason is not None:
            raise self._refusal(ask, reason)
        self._dialed[ask.reason] += 1
        address = Address(ask.endpoint.host, ask.endpoint.port)
        outcome = Outcome.SILENT
        try:
            for patience in _MEETING_TRIES:
                over = loop.time() + patience
                try:
                    async with asyncio.timeout_at(over):
                        return await open_tcp(await dial_from(address, source, self.listening_port))
                except TimeoutError:
                    continue
                except OSError as error:
                    outcome = outcome_of(error)
                    if outcome is not Outcome.REFUSED:
                        raise PathFailed(f"{ask.endpoint}: {error.strerror or error}") from None
                # A NAT may refuse what it has not sent for; the other side's SYN is on its way.
                await asyncio.sleep(over - loop.time())
            raise PathFailed(f"{ask.endpoint}: nobody came to the meeting")
        finally:
            self._meetings.over(attempt, outcome, loop.time())

    async def to_relay(
        self, relay: RelayAddress, leg: Leg, *, spawn: Spawn, timeout: float
    ) -> Opened:
        """Open a byte stream at a relay: of the configuration, or that its domain names.

        Raises:
            RelayUnavailable: as `open_upgraded`, or nobody can be there.
        """
        self._dialed[leg.reason] += 1
        never = self._never(relay)
        if never is not None:
            self._refused[leg.reason] += 1
            raise RelayUnavailable(f"no relay can be at {relay}: {never}")
        self._note(self._relays, relay.host, relay.port)
        own_port = self._own_port.towards(relay) if leg.reason is Reason.CONTROL else None
        opened = await open_upgraded(
            relay,
            leg.path,
            leg.carrier,
            spawn=spawn,
            timeout=timeout,
            local_address=leg.source,
            early=leg.early,
            avoid=leg.avoid,
            port=own_port,
        )
        if own_port is not None:
            self._own_port.dialed(relay, opened.stream)
        met = opened.stream.remote
        port = met.rpartition(":")[2]
        # A proxy is at a port of its own.
        kept = self._relays if port == str(relay.port) else self._proxies
        self._note(kept, host_in(met), int(port) if port.isascii() and port.isdigit() else 0)
        return opened

    async def to_node(self, node: Node, leg: Leg, *, spawn: Spawn, timeout: float) -> Opened | None:
        """Open a byte stream at another node of a relay; None where it is not dialed, or nobody is
        there: then the relay itself leads there.

        Raises:
            RelayUnavailable: the node has refused the leg.
        """
        loop = asyncio.get_running_loop()
        try:
            address = node.relay.beside(node.url)
            async with asyncio.timeout(timeout):
                found = await resolve(address.host, address.port)
            at = Endpoint.parse(found[0].host.partition("%")[0], address.port)
        except (RoamRelayError, OSError) as error:
            log.debug("not dialed", relay=node.url[:80], reason=str(error))
            return None
        attempt = Attempt(node.guid, at, Word.NODE)
        reason = node_refusal(at, (one.host for one in self._relays), self._here())
        reason = reason or self._budgets.refusal(attempt, loop.time())
        if reason is not None:
            self._refused[Word.NODE.value] += 1
            log.debug("not dialed", relay=node.url[:80], reason=reason)
            return None
        outcome = Outcome.CALLED_OFF
        try:
            opened = await self.to_relay(
                address.only_at(found[0].host), leg, spawn=spawn, timeout=timeout
            )
            outcome = Outcome.MET
        except RelayUnavailable as error:
            # A relay says no in a word of its own.
            outcome = Outcome.REFUSED if error.code is None else Outcome.MET
            if error.code is not None:
                raise
            return None
        finally:
            self._budgets.over(attempt, outcome, loop.time())
        return opened

    @contextlib.contextmanager
    def to_server(
        self, server: Endpoint, zone: str, met: Collection[str]
    ) -> Iterator[Callable[[], None]]:
        """Ask a name server inside that a zone names as its own; `met` are the addresses of who has
        said so. Call what this gives when the server has answered.

        Raises:
            DialRefused: it is not asked.
        """
        loop = asyncio.get_running_loop()
        attempt = Attempt(zone, server, Word.DELEGATION)
        reason = server_refusal(server, met, self._here())
        reason = reason or self._budgets.refusal(attempt, loop.time())
        if reason is not None:
            self._refused[Word.DELEGATION.value] += 1
            log.debug("not asked", zone=zone, server=str(server), reason=reason)
            raise DialRefused(f"{server} is not asked: {reason}")
        self._dialed[Reason.NAME_SERVER] += 1
        outcome = Outcome.SILENT

        def answered() -> None:
            nonlocal outcome
            outcome = Outcome.MET

        try:
            yield answered
        except (TimeoutError, EOFError):
            raise
        except OSError as error:
            outcome = outcome_of(error)
            raise
        finally:
            self._budgets.over(attempt, outcome, loop.time())

    # -- inside ---------------------------------------------------------------------------------

    def _scope_refusal(self, ask: Ask) -> str | None:
        return refusal(ask.endpoint, ask.known, self._here(), ask.caution or self._config.dial)

    def _is_provable(self, ask: Ask) -> bool:
        caution = ask.caution or self._config.dial
        return ask.witness is not None and is_provable(
            ask.endpoint, ask.known, self._here(), caution
        )

    async def _settled(self, ask: Ask) -> Ask:
        """Return a dial that the scopes allow, once the relay has said what it would take.

        Raises:
            DialRefused: they do not.
        """
        reason = self._scope_refusal(ask)
        if reason is None:
            return ask
        if ask.witness is None or not self._is_provable(ask):
            raise self._refusal(ask, reason)
        loop = asyncio.get_running_loop()
        question = Attempt(ask.remote, ask.endpoint, QUESTION)
        if self._questions.refusal(question, loop.time()) is not None:
            raise self._refusal(ask, f"{reason}; the relay was asked often enough")
        over = self._under_way[ask.remote, ask.endpoint] = asyncio.Event()
        try:
            has_met = await ask.witness.has_met()
        finally:
            del self._under_way[ask.remote, ask.endpoint]
            over.set()
        self._asked["met" if has_met else "not met"] += 1
        if not has_met:
            raise self._refusal(ask, f"{reason}; nor has the relay met it there")
        self._questions.over(question, Outcome.NOT_SENT, loop.time())
        return replace(ask, known=replace(ask.known, met=ask.known.met | {ask.endpoint}))

    @contextlib.asynccontextmanager
    async def _counted(self, ask: Ask, attempt: Attempt, passage: Passage) -> AsyncIterator[None]:
        """What comes of the dial inside is told to the budgets, whatever that is."""
        self._dialed[ask.reason] += 1
        try:
            yield
        except WrongIdentity:
            passage.outcome = Outcome.WRONG_KEY
            raise
        except PathFailed:
            # Connected, and then no TLS.
            if passage.outcome is Outcome.CALLED_OFF:
                passage.outcome = Outcome.REFUSED
            raise
        else:
            passage.outcome = Outcome.MET
        finally:
            self._budgets.over(attempt, passage.outcome, asyncio.get_running_loop().time())

    @contextlib.contextmanager
    def _again(self, ask: Ask, attempt: Attempt) -> Iterator[bool]:
        now = asyncio.get_running_loop().time()
        if self._made_again >= _MAX_AGAIN or self._budgets.refusal(attempt, now) is not None:
            yield False
            return
        self._made_again += 1
        self._dialed[ask.reason] += 1
        try:
            yield True
        finally:
            self._made_again -= 1

    async def _hold(self, word: Word, began: float) -> None:
        loop = asyncio.get_running_loop()
        held = {Word.TOLD: _HELD, Word.ZONE: self._config.stagger}.get(word, 0.0)
        await asyncio.sleep(max(0.0, began + held - loop.time()))

    def _refusal(self, ask: Ask, reason: str) -> DialRefused:
        word = word_of(ask.endpoint, ask.known)
        self._refused[word.value] += 1
        log.debug(
            "not dialed",
            peer=ask.remote[:8],
            endpoint=str(ask.endpoint),
            why=ask.reason.value,
            reason=reason,
        )
        return DialRefused(f"{ask.endpoint} is not dialed by {word.value} word: {reason}")

    def _here(self) -> Here:
        return Here(
            interfaces=self._interfaces.networks,
            relays=frozenset(self._relays),
            proxies=frozenset(self._proxies),
            servers=self._servers,
            listening=self._listening,
            advertised=self._config.advertise,
        )

    def _never(self, relay: RelayAddress) -> str | None:
        """Return why no relay can be at an address that SRV records name; what the configuration
        itself names is this peer's own wish."""
        if not (self._config.relay or "").startswith("dns"):
            return None
        try:
            host = str(ipaddress.ip_address(relay.host))
        except ValueError:
            return None
        here = Here(interfaces=self._interfaces.networks)
        return refusal(Endpoint(host, relay.port), Known(), here, Dial.OPEN)

    def _note(self, kept: OrderedDict[Endpoint, None], host: str, port: int) -> None:
        with contextlib.suppress(ProtocolViolation):
            endpoint = Endpoint.parse(host, port)
            kept[endpoint] = None
            kept.move_to_end(endpoint)
            if len(kept) > _MAX_RELAYS:
                kept.popitem(last=False)


def _word(ask: Ask, caution: Dial) -> Word:
    return Word.RELAY if caution is Dial.OPEN else word_of(ask.endpoint, ask.known)


def _attempt(ask: Ask, word: Word) -> Attempt:
    wished = ask.reason in (Reason.FIRST_PATH, Reason.SURVEY)
    return Attempt(ask.remote, ask.endpoint, word, wished)


def _name_servers(config: PeerConfig) -> frozenset[Endpoint]:
    """Return those that the configuration names by their addresses."""
    if config.ddns is None:
        return frozenset()
    found = set()
    for text in (*config.ddns.nameservers, *([config.ddns.server] if config.ddns.server else [])):
        server = HostPort.parse(text)
        with contextlib.suppress(ProtocolViolation):
            found.add(Endpoint.parse(server.host, server.port))
    return frozenset(found)
