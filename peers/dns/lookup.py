"""Where a peer is, as the DNS has it: asked, checked for its form, and kept for a while.

The DNS is a hint: resolvers keep answers too long, and anybody may forge them. Entries that a peer
has signed are passed on to be checked where they are used; addresses without any are tried and
must prove themselves like all others. Source: the draft §4.1; RFC 2782; RFC 8767 for answers that
are too old.
"""

import asyncio
import contextlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import dns.name
import dns.rdatatype

from peers.config import DdnsConfig, HostPort
from peers.dns import client
from peers.dns.answer import Answer
from peers.location import Found
from protocol.dns_records import (
    can_be_named,
    parse_zone,
    peer_name,
    read_entry_text,
    service_name,
)
from protocol.endpoint import Endpoint
from protocol.errors import (
    NameServerUnavailable,
    ProtocolViolation,
    UnknownPeer,
    UnknownService,
)

__all__ = [
    "NameLookup",
    "answer_data",
    "ask_all",
    "find_own",
    "find_primary",
]

_MAX_KEPT = 1024
"""Answers that are kept; beyond it the one used longest ago goes."""
_STALE_AFTER = 1.8
"""Seconds after which an old answer is used while the servers are silent (RFC 8767 §5)."""
_GRACE = 0.5
"""Seconds more than one question's time, so that its own error is told."""
_MAX_TTL = 300
"""Seconds: nobody who moves is where he was for longer."""
_OWN_KEPT = 900.0
"""Seconds for which the zone's own servers are remembered."""
_MAX_OWN = 4
_MAX_SIGNED, _MAX_HINTS = 64, 16
"""Records of one answer that are looked at: each costs a signature to check, or a question."""


class NameLookup:
    """Looks peers up for one peer, and keeps what it has found."""

    def __init__(
        self,
        config: DdnsConfig,
        through: client.Through | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`through` is what servers have to pass that the zone itself names."""
        self._config = config
        self._through = through
        self._zone = parse_zone(config.zone)
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[Found, float]] = OrderedDict()
        """An answer, and when it came."""
        self._own: tuple[HostPort, ...] = ()
        """The zone's own servers, where the configuration does not name one."""
        self._own_until = 0.0

    async def find(self, guid: str, service: str, *, fresh: bool = False) -> Found:
        """Return where a service of a peer is. `fresh` asks the zone's own server, whatever is
        kept: for a session that has lost its path, and where what was kept has led nowhere.

        Raises:
            UnknownPeer, UnknownService: the zone has no such name.
            NameServerUnavailable: no server answers, and nothing is kept.
        """
        if not can_be_named(service):
            raise UnknownService(f"{self._zone} has no {service[:80]!r}: it is no name in the DNS")
        key = guid, service
        kept = self._kept.get(key)
        age = self._clock() - kept[1] if kept else 0.0
        if kept and not fresh and age < kept[0].lifetime:
            self._kept.move_to_end(key)
            return kept[0]
        usable = kept is not None and age < kept[0].lifetime + self._config.stale
        timeout = min(self._config.timeout, _STALE_AFTER) if usable else self._config.timeout
        try:
            found = await self._find_anywhere(guid, service, timeout, fresh)
        except (UnknownPeer, UnknownService):
            self._kept.pop(key, None)
            raise
        except NameServerUnavailable:
            if kept is None or not usable:
                raise
            return Found(kept[0].signed, kept[0].hints, 0.0, stale=True)
        self._kept[key] = found, self._clock()
        self._kept.move_to_end(key)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    def distrust(self, guid: str, service: str) -> None:
        """Something in a kept answer has failed: ask again the next time. It stays at hand for the
        case that no server answers."""
        if kept := self._kept.get((guid, service)):
            found = kept[0]
            self._kept[guid, service] = Found(found.signed, found.hints, 0.0), kept[1]

    # -- inside ---------------------------------------------------------------------------------

    async def _find_anywhere(self, guid: str, service: str, timeout: float, fresh: bool) -> Found:
        """Ask who is to be asked. That there is no such peer, nobody is believed but the zone's own
        server while that can be asked: others keep "there is none" for as long as the zone's SOA
        says, an hour perhaps (RFC 2308)."""
        servers = await self._servers(fresh)
        try:
            return await self._ask_within(guid, service, servers, timeout)
        except (UnknownPeer, UnknownService) as unknown:
            if fresh or servers == self._configured:
                raise
            with contextlib.suppress(NameServerUnavailable, TimeoutError):
                async with asyncio.timeout(timeout):
                    own = await self._own_servers()
                    return await self._ask_within(guid, service, own, timeout)
            raise unknown

    @property
    def _configured(self) -> tuple[HostPort, ...]:
        server = self._config.server
        return (HostPort.parse(server),) if server else ()

    async def _servers(self, fresh: bool) -> tuple[HostPort, ...]:
        own, named = self._configured, tuple(map(HostPort.parse, self._config.nameservers))
        if fresh:
            with contextlib.suppress(NameServerUnavailable):
                own = await self._own_servers()
            if own:
                return (*own, *named)
        return named or own or await client.system_servers()

    async def _own_servers(self) -> tuple[HostPort, ...]:
        """Return the zone's own servers, found anew every now and then.

        Raises:
            NameServerUnavailable: nobody knows any.
        """
        if configured := self._configured:
            return configured
        now = self._clock()
        if not self._own or now >= self._own_until:
            self._own = await find_own(self._config, self._through)
            self._own_until = now + _OWN_KEPT
        return self._own

    async def _ask_within(
        self, guid: str, service: str, servers: Sequence[HostPort], timeout: float
    ) -> Found:
        """All questions together have the time of one: other tools' records may need many."""
        try:
            async with asyncio.timeout(timeout + _GRACE):
                return await self._ask(guid, service, servers, timeout)
        except TimeoutError:
            raise NameServerUnavailable(f"no whole answer within {timeout:g} s") from None

    async def _ask(
        self, guid: str, service: str, servers: Sequence[HostPort], timeout: float
    ) -> Found:
        name = service_name(service, guid, self._zone)

        async def ask(name: str, kind: str) -> Answer:
            return await client.ask(servers, name, kind, timeout)

        texts, services = await ask_all(ask(name, "TXT"), ask(name, "SRV"))
        signed = tuple(
            one
            for data in texts.data[:_MAX_SIGNED]
            if (one := read_entry_text(data.strings)) is not None
        )
        lifetime = float(min((_ttl(texts), _ttl(services), _MAX_TTL)))
        if signed:
            return Found(signed, (), lifetime)
        records = sorted(services.data, key=lambda one: (one.priority, -one.weight))
        hints: list[Endpoint] = []
        for record in records[:_MAX_HINTS]:
            if record.target.to_text() == ".":
                continue
            target = record.target.to_text(omit_final_dot=True)
            for answer in await ask_all(ask(target, "AAAA"), ask(target, "A")):
                for data in answer.data:
                    try:
                        hints.append(Endpoint.parse(data.address, record.port))
                    except ProtocolViolation:
                        continue
        if hints:
            return Found((), tuple(dict.fromkeys(hints))[:_MAX_HINTS], lifetime)
        if not (await ask(peer_name(guid, self._zone), "TXT")).exists:
            raise UnknownPeer(f"{self._zone} has nobody with this GUID")
        raise UnknownService(f"{self._zone} has no {service} of this peer")


async def find_own(
    config: DdnsConfig, through: client.Through | None = None
) -> tuple[HostPort, ...]:
    """Return the servers that know best what is in a zone: the primary first, which may be hidden
    from here, then those that its NS records name.

    Raises:
        NameServerUnavailable: nobody knows any.
    """
    primary = await find_primary(config, through)
    if config.server:
        return (primary,)
    found = [primary]
    with contextlib.suppress(NameServerUnavailable):
        answered = await client.ask_any(await _askable(config), config.zone, "NS", config.timeout)
        found += (_named(one.target, config, answered, through) for one in answered.answer.data)
    return tuple(dict.fromkeys(found))[:_MAX_OWN]


async def _askable(config: DdnsConfig) -> tuple[HostPort, ...]:
    named = tuple(map(HostPort.parse, config.nameservers))
    return named or await client.system_servers()


async def find_primary(config: DdnsConfig, through: client.Through | None = None) -> HostPort:
    """Return the server that takes a zone's updates: the configured one, or the one that its SOA
    record names (RFC 2136 §4).

    Raises:
        NameServerUnavailable: nobody knows.
    """
    if config.server:
        return HostPort.parse(config.server)
    zone = parse_zone(config.zone)
    answered = await client.ask_any(await _askable(config), zone, "SOA", config.timeout)
    for data in answered.answer.data:
        return _named(data.mname, config, answered, through)
    raise NameServerUnavailable(f"{zone} is no zone: it has no SOA record")


def _named(
    name: dns.name.Name,
    config: DdnsConfig,
    answered: client.Answered,
    through: client.Through | None,
) -> HostPort:
    """Return a server that a zone names. A resolver on this very host says nothing of where the
    zone is, but one that the configuration names."""
    where = name.to_text(omit_final_dot=True)
    if through is None:
        return HostPort(where)
    host = answered.server.host
    met = (
        (host,)
        if config.nameservers or not ipaddress.ip_address(host.partition("%")[0]).is_loopback
        else ()
    )
    return client.NamedServer(where, zone=config.zone, met=met, through=through)


async def ask_all(*questions: Coroutine[Any, Any, Answer]) -> list[Answer]:
    """Ask at once; the first fault cancels the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(question) for question in questions]
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return [task.result() for task in running]


def answer_data(answer: Answer, kind: str) -> list[Any]:
    """Return the data of one type in an answer."""
    wanted = dns.rdatatype.from_text(kind)
    return [one for one in answer.data if one.rdtype == wanted]


def _ttl(answer: Answer) -> int:
    return _MAX_TTL if answer.ttl is None else answer.ttl
