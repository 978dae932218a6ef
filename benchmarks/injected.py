"""Peers that are in our relay's memory alone, to see what grows with their number: more than there
are file descriptors for connections.
"""

import os
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from unittest import mock

from benchmarks.measure import resident
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry
from protocol.errors import Code
from protocol.identity import guid_of
from protocol.messages import LocationRecord, Message, ServiceRecord
from relay.http.descriptors import Descriptors
from relay.limits import Cause, cause_of
from relay.presence import Registry
from relay.tally import Figures

__all__ = ["inject"]


@dataclass(slots=True, eq=False)
class _Injected:
    """What stands for the connection of a peer that has none."""

    guid: str
    instance: bytes
    observed_host: str
    cause: Cause
    heard: float
    flow: int = 0
    asks: dict[Any, None] = field(default_factory=dict)
    asked: dict[Any, None] = field(default_factory=dict)
    had: Figures = field(default_factory=Figures)

    def send(self, message: Message) -> None:
        """Nobody is there."""

    def doubt(self, now: float) -> None:
        """Nobody is there."""

    def end(self, code: Code, reason: str) -> None:
        """Nobody is there."""


def inject(many: int, file: str) -> None:
    """Have peers in the registry of the relay that this process is about to make, and the bytes of
    each in a file. That relay keeps no descriptors back for planes, of which there are none: all
    may be peers."""
    made = Registry.__init__

    def make(registry: Registry, **settings: Any) -> None:
        made(registry, **settings)
        before = resident(os.getpid())
        for number in range(many):
            _put(registry, number)
        with open(file, "w") as note:
            note.write(str((resident(os.getpid()) - before) / max(1, many)))

    mock.patch.object(Registry, "__init__", make).start()
    every = property(lambda descriptors: descriptors.for_known)
    for name in ("for_strangers", "connections", "share"):
        mock.patch.object(Descriptors, name, every).start()


def _put(registry: Registry, number: int) -> None:
    guid = guid_of(os.urandom(32))
    host = f"10.{number // 62_500}.{number // 250 % 250}.{1 + number % 250}"
    entry = Entry(1, "chat", host, 9, Phase.PREFERRED, 120, Provenance.INTERFACE)
    # As long as a signed one; nobody asks for it.
    service = ServiceRecord("chat", (SignedEntry(os.urandom(120), os.urandom(64)),))
    now = monotonic()
    connection = _Injected(guid, os.urandom(16), host, cause_of(host), now)
    record = LocationRecord(1, (service,))
    registry.register(connection, record, now, {"chat": (service, (entry,))})
