"""Registration by dynamic DNS (RFC 2136): this peer's location record at a zone's server.

One message replaces all of a peer's records, under the condition that the zone still holds the
record that this one follows: an update that comes late, from the old place, changes nothing.
Source: the draft §4.1; RFC 2136 §2.4, §3; RFC 8945.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence

import dns.message
import dns.rcode
import dns.tsig

from peers.config import DdnsConfig, HostPort, log
from peers.dns import client, lookup
from peers.dns.client import Clock
from peers.dns.update import Followed, update_message
from peers.tasks import backoff, unless
from protocol.dns_records import (
    ZoneRecord,
    location_record_sets,
    parse_zone,
)
from protocol.endpoint import SignedEntry
from protocol.errors import Code, NameServerUnavailable, RoamRelayError, UpdateRefused

__all__ = ["DdnsRegistration", "LocationNow"]

_WITHDRAWAL = 3.0
"""Seconds for the records to be taken back when the peer closes."""
_TRIES = 3
"""Updates in a row that may find another record in the zone than they follow."""
_CONFLICTS = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
_NEXT_STEP = {
    dns.rcode.REFUSED: "the server's policy must let this key change its own name and what is "
    "below it",
    dns.rcode.NOTAUTH: "the server is not the zone's primary, or does not know the key",
    dns.rcode.NOTZONE: "the name is not in the zone",
    dns.rcode.NOTIMP: "the server takes no updates",
}

LocationNow = Callable[[int], tuple[int, Mapping[str, Sequence[SignedEntry]]]]
"""Returns the location record of now, as far as anybody may know it, under a number above the given
one and above that of every record before it."""


class DdnsRegistration:
    """Keeps one peer registered in a zone. `run` it in a task; `changed` whenever what it says
    may be different."""

    def __init__(
        self,
        guid: str,
        instance: bytes,
        config: DdnsConfig,
        key: dns.tsig.Key,
        location: LocationNow,
    ) -> None:
        self._guid = guid
        self._instance = instance
        self._zone = parse_zone(config.zone)
        self._config = config
        self._key = key
        self._location = location
        self._clock = Clock()
        self._server: HostPort | None = None
        self._followed: Followed | None = None
        """What the zone holds of this peer, and the text of it."""
        self._known = False
        """Whether that is so: after an update without an answer nobody knows."""
        self._highest = 0
        """The highest number that was sent: what the zone holds above it is another instance's."""
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._settled = asyncio.Event()
        self.failure: RoamRelayError | None = None
        """Why the zone does not hold what it should."""
        self._final = False
        self._running: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """Publish anew as soon as possible; an update that is under way is given up, as it may
        come from an address that is gone."""
        if not self._final:
            self._settled.clear()
            self._wanted.set()

    async def published(self, timeout: float) -> None:
        """Wait until the zone holds what is said now.

        Raises:
            UpdateRefused, NameServerUnavailable: it does not, or not in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._settled.wait()
                if self.failure is None:
                    return
        raise self.failure or NameServerUnavailable(
            f"not registered in {self._zone} within {timeout:g} s"
        )

    async def run(self) -> None:
        """Publish, and again on every change, after every failure, and from time to time. Ends on
        cancellation, or where another instance has taken the name over."""
        self._running = asyncio.current_task()
        waits = backoff(random.random)
        while not self._final:
            self._wanted.clear()
            if await unless(self._wanted, self._publish_once) is None:
                self._known = False  # An update may have been cut short.
            else:
                wait = self._config.refresh if self.failure is None else next(waits)
                if self.failure is None:
                    waits = backoff(random.random)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wanted.wait()

    async def withdraw(self) -> None:
        """Take this peer's records out of the zone, if it has put any there. Tries once."""
        if not self._highest or self._final:
            return
        self._final = True
        with contextlib.suppress(RoamRelayError, TimeoutError):
            async with asyncio.timeout(_WITHDRAWAL):
                if self._running is not None:
                    self._running.cancel()
                    await asyncio.wait({self._running})
                server = await self._primary()
                if not self._known:
                    await self._look(server)
                if self._followed is None or self._is_anothers(self._followed.record):
                    return
                message = update_message(self._guid, self._zone, self._followed, {})
                answer = await client.update(server, message, self._key, self._clock, _WITHDRAWAL)
                log.info("withdrawn", zone=self._zone, code=dns.rcode.to_text(answer.rcode()))

    # -- inside ---------------------------------------------------------------------------------

    async def _publish_once(self) -> bool:
        """Publish; return whether the zone holds it."""
        try:
            await self._publish()
        except RoamRelayError as error:
            self.failure = error
            self._known = False
            self._server = None
            self._final = error.code is Code.SUPERSEDED
            log.warning("not registered in the DNS", zone=self._zone, reason=error.reason)
        else:
            self.failure = None
        if not self._wanted.is_set():
            self._settled.set()
        return self.failure is None

    async def _publish(self) -> None:
        server = await self._primary()
        code = dns.rcode.NOERROR
        for _ in range(_TRIES):
            if not self._known:
                await self._look(server)
            before = self._followed.record.seq if self._followed else 0
            if self._followed is not None and self._is_anothers(self._followed.record):
                raise UpdateRefused(
                    "another instance with this key has registered", code=Code.SUPERSEDED
                )
            seq, services = self._location(before)
            sets = location_record_sets(self._guid, self._zone, seq, services, self._instance)
            message = update_message(self._guid, self._zone, self._followed, sets)
            # Until there is an answer, the zone may hold either.
            highest, self._known, self._highest = self._highest, False, seq
            answer = await client.update(
                server, message, self._key, self._clock, self._config.timeout
            )
            code = answer.rcode()
            if code == dns.rcode.NOERROR:
                record = ZoneRecord(seq, tuple(services), self._instance.hex())
                self._followed, self._known = Followed.of(record), True
                log.info("registered", zone=self._zone, seq=seq, server=str(server))
                return
            self._highest = highest
            if code not in _CONFLICTS:
                hint = _NEXT_STEP.get(code, "")
                raise UpdateRefused(
                    f"{server} refused the update of {self._zone}: {dns.rcode.to_text(code)}"
                    + (f" ({hint})" if hint else "")
                )
        raise NameServerUnavailable(f"{server} said {dns.rcode.to_text(code)} {_TRIES} times")

    def _is_anothers(self, record: ZoneRecord) -> bool:
        """Whether another instance has registered after this one."""
        return (
            bool(self._highest)
            and record.seq > self._highest
            and record.instance != self._instance.hex()
        )

    async def _primary(self) -> HostPort:
        if self._server is None:
            found = await lookup.find_primary(self._config)
            addresses = await client.addresses_of(found)
            self._server = HostPort(addresses[0], found.port)
        return self._server

    async def _look(self, server: HostPort) -> None:
        self._followed = await lookup.read_published(
            server, self._guid, self._zone, self._config.timeout
        )
        self._known = True
