"""Return routability: which endpoints of a peer the relay may disclose (design §9).

An address that a peer's own connection comes from needs no proof. At any other the relay itself
completes one TLS handshake, in which the peer's key must show. Nothing else is sent, and what came
of it is told to nobody. One probe at a time for each peer, few in all, with growing pauses
(`turns.py` decides), only into networks that the operator allows: a peer can make neither a port
scanner nor a flood of it.
"""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any, assert_never

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.endpoint import Endpoint
from protocol.identity import guid_of
from relay.limits import cause_of
from relay.log import log, short
from relay.metrics import Metrics
from relay.presence.registry import Registry
from relay.presence.turns import Begin, CallOff, Turns

__all__ = ["ProofRules", "Proofs", "guid_in", "may_probe"]

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

    allowed: Callable[[str, Collection[str]], bool]
    """Whether an address may be dialed, for a peer that is observed at these."""
    timeout: float
    """For one probe."""
    lifetime: float
    """For which a proof holds."""


class Proofs:
    """The probes of one relay: carries out what `Turns` decides."""

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
        self._turns = Turns(rules.lifetime)
        self._changed: asyncio.Event | None = None
        """Set to look again; None while nobody looks."""
        self._handshakes: dict[str, asyncio.Timeout] = {}
        """Those under way, by the peer that is probed."""
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
        return len(self._turns)

    def consider(self, guid: str) -> None:
        """A peer has registered or updated: prove what is not proven."""
        self._refresh(guid)
        if self._changed is not None:
            self._changed.set()
        elif self.working:
            self._changed = asyncio.Event()
            self._spawn(self._keep(self._changed))

    async def _keep(self, changed: asyncio.Event) -> None:
        """Probe as long as any peer has an endpoint to prove."""
        try:
            while self.working:
                changed.clear()
                for action in self._turns.time(self._clock()):
                    match action:
                        case Begin(guid, endpoint):
                            self._begin(guid, endpoint)
                        case CallOff(guid):
                            self._call_off(guid)
                        case _:
                            assert_never(action)
                due = self._turns.next_timeout()
                with contextlib.suppress(TimeoutError):
                    # Without a deadline it is a probe that ends, and tells.
                    async with asyncio.timeout(None if due is None else due - self._clock()):
                        await changed.wait()
        finally:
            self._changed = None

    def _begin(self, guid: str, endpoint: Endpoint) -> None:
        if endpoint in self._refresh(guid):
            self._spawn(self._prove(guid, endpoint))
        else:  # Its peer has gone meanwhile.
            self._finished(guid, endpoint, False)

    def _call_off(self, guid: str) -> None:
        handshake = self._handshakes.get(guid)
        if handshake is not None and not handshake.expired():
            handshake.reschedule(0.0)

    def _refresh(self, guid: str) -> list[Endpoint]:
        """Return the endpoints of a live peer that need a probe, now or later."""
        registration = self._registry.get(guid)
        primary = registration.primary if registration is not None else None
        if registration is None or primary is None:
            self._turns.wants(guid, "", (), self._clock())
            return []
        found = dict.fromkeys(
            entry.endpoint
            for _, entries in registration.services.values()
            for entry in entries
            if not registration.observed(entry.host)
            and self._rules.allowed(entry.host, registration.observed_hosts)
        )
        for endpoint in [known for known in registration.proofs if known not in found]:
            del registration.proofs[endpoint]
        self._turns.wants(guid, cause_of(primary.observed_host).wide, found, self._clock())
        return list(found)

    async def _prove(self, guid: str, endpoint: Endpoint) -> None:
        proven = False
        try:
            proven = await self._probe(guid, endpoint)
        finally:
            self._finished(guid, endpoint, proven)

    def _finished(self, guid: str, endpoint: Endpoint, proven: bool) -> None:
        wanting = self._refresh(guid)
        self._turns.finished(guid, proven, self._clock())
        if self._changed is not None:
            self._changed.set()
        registration = self._registry.get(guid)
        if registration is None or endpoint not in wanting:
            return
        self._metrics.proofs["proven" if proven else "failed"] += 1
        if not proven:
            registration.proofs.pop(endpoint, None)
            return
        if endpoint not in registration.proofs:
            log.debug("endpoint proven", peer=short(guid), at=str(endpoint))
        registration.proofs[endpoint] = None

    async def _probe(self, guid: str, endpoint: Endpoint) -> bool:
        """Whether a TLS handshake at an endpoint ends at the peer's key."""
        try:
            async with asyncio.timeout(self._rules.timeout) as handshake:
                self._handshakes[guid] = handshake
                try:
                    _, writer = await asyncio.open_connection(
                        endpoint.host, endpoint.port, ssl=self._context
                    )
                finally:
                    del self._handshakes[guid]
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
