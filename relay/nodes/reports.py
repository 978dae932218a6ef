"""What a node says of itself to its supervisor, one object of JSON a line."""

from typing import TypeAlias

import msgspec

__all__ = ["Alive", "Report", "Serving", "Stuck", "Unable", "read", "write"]


class _Report(msgspec.Struct, frozen=True, tag_field="report"):
    pass


class Serving(_Report, frozen=True, tag="serving"):
    """It serves, and knows the others."""

    guid: str
    urls: tuple[str, ...]
    admin_urls: tuple[str, ...]


class Alive(_Report, frozen=True, tag="alive"):
    """Its loop has its turn: every second."""


class Stuck(_Report, frozen=True, tag="stuck"):
    """NATS answers, and keeps nothing of what it is to keep: every second while that is so."""


class Unable(_Report, frozen=True, tag="unable"):
    """It cannot serve, for a reason that starting it anew does not change."""

    reason: str


Report: TypeAlias = Serving | Alive | Stuck | Unable

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Report)


def write(report: Report) -> bytes:
    """Return a line."""
    return _encode(report) + b"\n"


def read(line: bytes) -> Report:
    """Read a line.

    Raises:
        ValueError: it is none of these.
    """
    report: Report = _decoder.decode(line)
    return report
