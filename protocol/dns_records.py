"""How a location record looks in the DNS: names, and records in presentation format.

Below `<guid>.<zone>`, and nowhere else:

- `<guid>.<zone>` A and AAAA: every address that a new session may dial; TXT: the number of the
  location record and its services, which an update names as what it replaces.
- `e<number>.<guid>.<zone>` A or AAAA: one address each, so that SRV can put them in order.
- `_<service>._tcp.<guid>.<zone>` SRV: the endpoints, priority 0 for the latest; TXT: the entries as
  the peer has signed them, one a record.

Peers write these records and relays make them for the peers that are registered, from one code.
Messages, signing and looking up are the shells' work. Source: the draft §4.1; RFC 1035, RFC 2782.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.endpoint import SignedEntry, order, read_entry
from protocol.errors import ProtocolViolation

__all__ = [
    "MAX_ADDRESSES",
    "TTL",
    "RecordSets",
    "ZoneRecord",
    "address_name",
    "can_be_named",
    "entry_text",
    "key_file_text",
    "location_record_sets",
    "parse_zone",
    "peer_name",
    "read_entry_text",
    "read_zone_record",
    "service_name",
    "zone_record_text",
]

MAX_ADDRESSES = 16
"""Addresses of one peer: the names that an update has to clear are known without asking."""
TTL = 30
"""Seconds for which an answer may be kept."""

_VERSION = "roam-relay/1"
_ZONE = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")
_SERVICE = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")
_INSTANCE = re.compile(r"[0-9a-f]{1,32}")
_SEQ_BOUND = 2**62
"""Numbers begin at the milliseconds since 1970 and grow by one: no peer comes near. Who follows a
number that somebody made up has as many again before the end, at 2^63."""
_MAX_SERVICES = 1024
"""Services of one record that are read: an update could not clear more in one message."""
_STRING = 255
"""Bytes of one character-string (RFC 1035 §3.3)."""
_LONGEST = len("_._tcp..") + 63 + 52

RecordSets = dict[tuple[str, str], tuple[str, ...]]
"""(name without the last dot, type) to the data of its records."""


@dataclass(frozen=True, slots=True)
class ZoneRecord:
    """What the TXT record at a peer's own name says."""

    seq: int
    """The number of the location record that is published."""
    services: tuple[str, ...]
    """Those that have records: what the next update must clear."""
    instance: str = ""
    """The instance of the peer that has said so, in hexadecimal: one knows its own record."""


def parse_zone(text: str) -> str:
    """Return a zone's name in its canonical form: lower case, without the last dot.

    Raises:
        ProtocolViolation: not a name, or so long that a service's name would not fit below it.
    """
    zone = text.strip().removesuffix(".").lower()
    if not _ZONE.fullmatch(zone) or len(zone) + _LONGEST > 253:
        raise ProtocolViolation(f"not a DNS zone: {text[:80]!r}")
    return zone


def peer_name(guid: str, zone: str) -> str:
    """Return the name of a peer, which is also the name of its TSIG key."""
    return f"{guid}.{zone}"


def address_name(number: int, guid: str, zone: str) -> str:
    """Return the name of one of a peer's addresses (0 to `MAX_ADDRESSES` - 1)."""
    return f"e{number}.{guid}.{zone}"


def service_name(service: str, guid: str, zone: str) -> str:
    """Return the name of a service of a peer (RFC 2782)."""
    return f"_{service}._tcp.{guid}.{zone}"


def can_be_named(service: str) -> bool:
    """Whether a service has a name in the DNS: its label, with `_` before it, has 63 bytes at most.
    A service of 63 characters can be registered with a relay alone."""
    return _SERVICE.fullmatch(service) is not None


def zone_record_text(record: ZoneRecord) -> str:
    """Return the data of the TXT record at a peer's own name."""
    strings = [_VERSION, f"seq={record.seq}", *(f"service={name}" for name in record.services)]
    if record.instance:
        strings.insert(2, f"instance={record.instance}")
    return " ".join(f'"{string}"' for string in strings)


def read_zone_record(strings: Sequence[bytes]) -> ZoneRecord | None:
    """Return what a TXT record says, or None where it is something else's.

    Whoever holds the zone, or sits on the way, may have written it: names and numbers that cannot
    be a peer's are left out.
    """
    if not strings or strings[0] != _VERSION.encode():
        return None
    seq, instance = 0, ""
    services = []
    for string in strings[1:]:
        key, _, value = string.decode("ascii", "replace").partition("=")
        if key == "seq" and value.isascii() and value.isdigit() and len(value) <= 19:
            seq = int(value) if int(value) < _SEQ_BOUND else 0
        elif key == "instance" and _INSTANCE.fullmatch(value):
            instance = value
        elif key == "service" and can_be_named(value):
            services.append(value)
    return ZoneRecord(seq, tuple(services[:_MAX_SERVICES]), instance)


def entry_text(signed: SignedEntry) -> str:
    """Return the data of the TXT record that carries one signed entry."""
    text = base64.b64encode(signed.signature + signed.body).decode()
    strings = [text[start : start + _STRING] for start in range(0, len(text), _STRING)]
    return " ".join(f'"{string}"' for string in strings)


def read_entry_text(strings: Sequence[bytes]) -> SignedEntry | None:
    """Return the signed entry of a TXT record, unchecked, or None where it is something else's."""
    text = b"".join(strings)
    if len(text) > 512:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return SignedEntry(data[64:], data[:64]) if 64 < len(data) <= 64 + 256 else None


def location_record_sets(
    guid: str,
    zone: str,
    seq: int,
    services: Mapping[str, Sequence[SignedEntry]],
    instance: bytes = b"",
) -> RecordSets:
    """Return all records of a location record, as an instance of its peer says it. Services that
    have no name in the DNS are left out.

    Raises:
        ProtocolViolation: an entry is malformed.
    """
    services = {name: signed for name, signed in services.items() if can_be_named(name)}
    numbers: dict[str, int] = {}
    sets: RecordSets = {}
    for service, signed in services.items():
        entries = order(map(read_entry, signed))
        usable = []
        for entry in entries:
            if entry.host in numbers or len(numbers) < MAX_ADDRESSES:
                numbers.setdefault(entry.host, len(numbers))
                usable.append(entry)
        name = service_name(service, guid, zone)
        if usable:
            sets[name, "SRV"] = tuple(
                f"{priority} 0 {entry.port} {address_name(numbers[entry.host], guid, zone)}."
                for priority, entry in enumerate(usable)
            )
        if signed:
            sets[name, "TXT"] = tuple(map(entry_text, signed))
    for host, number in numbers.items():
        sets[address_name(number, guid, zone), _type_of(host)] = (host,)
    own = peer_name(guid, zone)
    for kind in ("A", "AAAA"):
        if hosts := tuple(host for host in numbers if _type_of(host) == kind):
            sets[own, kind] = hosts
    sets[own, "TXT"] = (zone_record_text(ZoneRecord(seq, tuple(services), instance.hex())),)
    return sets


def _type_of(host: str) -> str:
    return "AAAA" if ":" in host else "A"


def key_file_text(name: str, secret: bytes) -> str:
    """Return a key as BIND's tools and our peers read it."""
    text = base64.b64encode(secret).decode()
    return f'key "{name}" {{\n    algorithm hmac-sha256;\n    secret "{text}";\n}};\n'
