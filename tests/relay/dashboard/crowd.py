"""Peers that are registered at a relay and nowhere else: as many as a page has to bear."""

import base64
import hashlib
import itertools
from collections.abc import Iterator

from protocol.messages import LocationRecord, ServiceRecord
from relay.presence import Registry
from tests.relay.fakes import FakeAttachment

__all__ = ["HOSTILE", "come", "crowd", "guid_of"]

HOSTILE = '<img src=x onerror="document.title=\'taken\'"><script>document.title="taken"</script>'
"""A service's name that would be a program where text is taken for HTML."""
_seqs = itertools.count(1)


def guid_of(number: int) -> str:
    """Return what looks like a GUID; nobody has its key."""
    digest = hashlib.sha256(str(number).encode()).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def come(
    registry: Registry, guid: str, host: str, *services: str, instance: bytes = b"i" * 16
) -> FakeAttachment:
    """A peer comes, or comes again, from an address."""
    flow = FakeAttachment(guid, instance=instance)
    flow.observed_host = host
    record = LocationRecord(next(_seqs), tuple(ServiceRecord(name) for name in services))
    registry.register(flow, record, 0.0)
    return flow


def crowd(registry: Registry, count: int) -> Iterator[FakeAttachment]:
    """So many come, from some hundred networks, with some services."""
    names = ("chat", "files", "echo", "telemetry", "camera", "backup")
    for number in range(count):
        host = f"203.0.{number % 113}.{number // 113 % 250 + 1}"
        offered = [names[number % 6]] + (["presence"] if number % 3 == 0 else [])
        yield come(registry, guid_of(number), host, *offered)
