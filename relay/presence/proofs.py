"""Return routability: which endpoints of a peer the relay may disclose (design §9).

An address that a peer's own connection comes from needs no proof. At any other the relay itself
completes one TLS handshake, in which the peer's key must show. Nothing else is sent, and what came
of it is told to nobody. One probe at a time for each peer, few in all, with growing pauses, only
into networks that the operator allows: a peer can make neither a port scanner nor a flood of it.
"""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.endpoint import Endpoint
from protocol.identity import guid_of
from relay.limits import Rates
from relay.log import log, short
from relay.metrics import Metrics
from relay.presence.registry import RegisteredPeer, Registry

__all__ = ["ProofRules", "Proofs", "guid_in", "may_probe"]

_AT_ONCE = 16
"""Probes under way in all."""
_PEER_RATE, _PEER_BURST = 1.0, 32
"""Probes of one peer: sustained, a second; and at once."""
_SPACING = 0.01
"""Seconds between the starts of two probes, whoever they are for: 100 a second in all."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 600.0
"""Seconds between two probes of an endpoint that was not proven; doubled each time."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_TRANSLATED = tuple(
    ipaddress.ip_network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)
"""IPv6 ranges that hold an IPv4 address, which may be anything."""


def may_probe(host: str, serves: str, networks: tuple[str, ...]) -> bool:
    """Whether the relay may dial an address: a global one; one in `networks`, which the operator
    allows; or one of the kind that the relay itself `serves` on, loopback or private."""
    address = ipaddress.ip_address(host)
    if any(address in ipaddress.ip_network(network) for network in networks):
        return True
    if address.is_multicast or address.is_link_local or address.is_unspecified:
        return False
    if any(address in network for network in _TRANSLATED):
        return False
    if address.is_global:
        return True
    try:
        own: _Address = ipaddress.ip_address(serves)
    except ValueError:
        return False
    if own.is_unspecified:
        return False
    if own.is_loopback or address.is_loopback:
        return own.is_loopback and address.is_loopback
    return own.is_private and address.is_private and own.version == address.version


@dataclass(frozen=True, slots=True)
class ProofRules:
    """What the operator allows probes; times are seconds."""

    allowed: Callable[[str], bool]
    """Whether an address may be dialed."""
    timeout: float
    """For one probe."""
    lifetime: float
    """For which a proof holds."""


class Proofs:
    """The probes of one relay."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        rules: ProofRules,
        clock: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._rules = rules
        self._clock = clock
        self._spawn = spawn
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._rates = Rates(_PEER_RATE, _PEER_BURST)
        self._next = 0.0
        self._working: dict[str, asyncio.Event] = {}
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        # The key in the certificate is compared with the GUID; no authority has signed it.
        self._context.verify_mode = ssl.CERT_NONE
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        # One small key share: the first packet has some 250 bytes.
        self._context.set_ecdh_curve("X25519")

    @property
    def working(self) -> int:
        """Peers whose endpoints are probed, or will be again."""
        return len(self._working)

    def consider(self, guid: str) -> None:
        """A peer has registered or updated: prove what is not proven."""
        if guid in self._working:
            self._working[guid].set()
        elif self._wanting(guid):
            self._working[guid] = asyncio.Event()
            self._spawn(self._work(guid))

    def _wanting(self, guid: str) -> list[Endpoint]:
        """Return the endpoints of a live peer that need a probe, now or later."""
        registration = self._registry.get(guid)
        if registration is None or not registration.flows:
            return []
        found = dict.fromkeys(
            entry.endpoint
            for _, entries in registration.services.values()
            for entry in entries
            if not registration.observed(entry.host) and self._rules.allowed(entry.host)
        )
        for endpoint in [known for known in registration.proofs if known not in found]:
            del registration.proofs[endpoint]
        return list(found)

    async def _work(self, guid: str) -> None:
        """Probe one peer's endpoints, one after the other, as long as it has any to prove."""
        changed = self._working[guid]
        due: dict[Endpoint, float] = {}
        pauses: dict[Endpoint, float] = {}
        try:
            while wanting := self._wanting(guid):
                changed.clear()
                now = self._clock()
                due = {endpoint: due.get(endpoint, now) for endpoint in wanting}
                endpoint = min(wanting, key=due.__getitem__)
                if due[endpoint] > now:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(due[endpoint] - now):
                            await changed.wait()
                    continue
                if wait := self._rates.take(guid, now):
                    await asyncio.sleep(wait)
                    continue
                registration = self._registry.get(guid)
                proven = await self._probe(guid, endpoint)
                if registration is None or registration is not self._registry.get(guid):
                    return
                pause = self._note(registration, endpoint, proven, pauses.get(endpoint, 0.0))
                pauses[endpoint] = 0.0 if proven else pause
                due[endpoint] = self._clock() + pause
        finally:
            del self._working[guid]

    def _note(
        self, registration: RegisteredPeer, endpoint: Endpoint, proven: bool, pause: float
    ) -> float:
        """Keep what came of a probe; return the pause before the next one there."""
        self._metrics.proofs["proven" if proven else "failed"] += 1
        if proven:
            if endpoint not in registration.proofs:
                log.debug("endpoint proven", peer=short(registration.guid), at=str(endpoint))
            registration.proofs[endpoint] = None
            return self._rules.lifetime
        registration.proofs.pop(endpoint, None)
        return min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    async def _probe(self, guid: str, endpoint: Endpoint) -> bool:
        """Whether a TLS handshake at an endpoint ends at the peer's key."""
        async with self._slots:
            now = self._clock()
            self._next = max(now, self._next) + _SPACING
            await asyncio.sleep(self._next - _SPACING - now)
            try:
                async with asyncio.timeout(self._rules.timeout):
                    _, writer = await asyncio.open_connection(
                        endpoint.host, endpoint.port, ssl=self._context
                    )
            except (OSError, TimeoutError):
                return False
        try:
            channel = writer.get_extra_info("ssl_object")
            return guid_in(channel.getpeercert(True) if channel else None) == guid
        finally:
            writer.transport.abort()


def guid_in(certificate: bytes | None) -> str | None:
    """Return the GUID of the key in a certificate; None where there is none of our kind."""
    if certificate is None:
        return None
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return None
    if not isinstance(key, Ed25519PublicKey):
        return None
    return guid_of(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
