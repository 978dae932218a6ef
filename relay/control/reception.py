"""What the relay is to each of its control connections: who it is, what it allows, who is here."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.dns_records import peer_name
from protocol.features import MAILBOX, RELAY_FEATURES
from protocol.messages import Challenge, Hello, Limits
from relay.admission import Admission, Operators
from relay.backplane import ALONE, Backplane
from relay.config import RelayConfig
from relay.control.handshake import Claim, challenge
from relay.keys import Keys
from relay.limits import Cause, Rates, Work, WorkRates
from relay.metrics import Metrics
from relay.plane import Pacer

if TYPE_CHECKING:
    from relay.control.connection import ControlConnection
    from relay.dns import DnsServer
    from relay.mailbox import Mailbox

__all__ = ["Reception", "Rooms"]

_INVITATIONS, _INVITATIONS_BURST = 5.0, 50
"""Invitations a second that are looked at for one network, and at once: two signatures each. One
that is known is not looked at again, so that many who come back together need none."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """The rooms beside this one that peers are led to."""

    admission: Admission
    dns: "DnsServer | None"
    pacer: Pacer
    mailbox: "Mailbox | None" = None
    backplane: Backplane = ALONE


class Reception:
    """The reception of one relay."""

    def __init__(
        self,
        config: RelayConfig,
        keys: Keys,
        rooms: Rooms,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.keys = keys
        self.dns = rooms.dns
        self.mailbox = rooms.mailbox
        self.nodes = rooms.backplane.nodes
        """Where else a peer may go, as it is told."""
        self.features = tuple(
            name for name in RELAY_FEATURES if name != MAILBOX or rooms.mailbox is not None
        )
        """What the relay knows beyond version 1, as each peer is told."""
        self.admission = rooms.admission
        self._pacer = rooms.pacer
        self.operators = Operators(
            lambda: (one.public_key for one in keys.served), config.operator_guids
        )
        self.invitations = Rates(_INVITATIONS, _INVITATIONS_BURST)
        """Of each network."""
        self.metrics = metrics
        self.clock = clock
        self.requests = Rates(config.requests_per_second, config.requests_burst)
        """Of each peer, by its GUID."""
        self.work = Work(
            WorkRates(
                config.work_per_peer,
                config.work_per_network,
                (config.work_per_network + config.work_in_all) / 2,
                config.work_in_all,
            )
        )
        """Of the relay's time, for each that causes it."""
        self.connections: set[ControlConnection] = set()
        """All that are not over."""
        self.limits = Limits(
            pending_requests=config.pending_requests,
            heartbeat=config.heartbeat,
            lease=config.lease,
        )
        """As each peer is told."""
        self.observe_port = config.observe_port
        """The same; 0: there is no second port."""

    def challenge(self, hello: Hello) -> tuple[Claim, Challenge]:
        """Take a hello; return what is claimed, and how it is answered.

        Raises:
            ProtocolViolation: another version is spoken, or the GUID is none.
        """
        return challenge(
            self.keys,
            self.limits,
            hello,
            os.urandom(32),
            invitation=self.admission.asks_invitation,
            features=self.features,
        )

    def leave(self, connection: "ControlConnection") -> None:
        """A connection is over."""
        self.connections.discard(connection)
        if self.mailbox is not None:
            self.mailbox.lost(connection)

    def charge(self, cause: Cause, cost: float) -> float:
        """Charge what is about to be done; return 0, or for how many seconds it has to wait."""
        wait = self.work.charge(cause, cost, self.clock())
        if wait:
            self.metrics.limited["work"] += 1
        return wait

    def pace(self, cause: Cause, size: int) -> float:
        """Charge bytes that have come; return 0, or for how many seconds no more are to be read."""
        return self._pacer.charge(cause, size) if self._pacer.is_on else 0.0

    def domain_name(self, guid: str) -> str:
        """Return the name of a peer in the relay's own zone; empty where it has none."""
        return peer_name(guid, self.dns.zone.name) if self.dns is not None else ""
