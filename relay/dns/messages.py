"""One DNS message in, one out: reading, signatures, and which code says what is wrong.

Source: RFC 1035 §4.1.1, RFC 2136 §3, RFC 8945 §5.2 for signatures that do not hold.
"""

import asyncio
import contextlib
import struct
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TSIG
import dns.rrset
import dns.tsig
from dns.update import UpdateMessage

from relay.config import DnsConfig
from relay.dns.answer import PAYLOAD, answer_query, skeleton
from relay.dns.keys import DnsKeys
from relay.dns.store import DnsStore, StoreFailed
from relay.dns.update import UpdateFailed, updated
from relay.dns.zone import Zone
from relay.limits import Rates
from relay.log import log, short
from relay.metrics import Metrics

__all__ = ["DnsMessages"]

_FUDGE = 300
"""Seconds by which a signed message's clock may differ from ours (RFC 8945 §10)."""
_MAX_SEEN = 4096
"""Signatures of updates that are remembered, so that none is taken twice."""
_MAX_ANSWERS = 4096
_MAX_WAITING = 256
"""Updates that may wait for the store."""
_HEADER = struct.Struct("!HHHHHH")
_PARSE_ERRORS = (dns.exception.DNSException, ValueError, struct.error, LookupError, UnicodeError)


@dataclass(frozen=True, slots=True)
class _Unsigned:
    """A signature that does not hold, and what to answer."""

    query: dns.message.Message
    signature: dns.rrset.RRset
    error: dns.rcode.Rcode
    key: dns.tsig.Key | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer with records, without its number."""

    guid: str
    version: tuple[object, ...]
    rest: bytes


class DnsMessages:
    """Answers the messages of one zone."""

    def __init__(
        self,
        config: DnsConfig,
        zone: Zone,
        keys: DnsKeys,
        store: DnsStore,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._zone = zone
        self._keys = keys
        self._store = store
        self._metrics = metrics
        self._clock = time.time
        self._updating = asyncio.Lock()
        self._waiting = 0
        self._update_rates = Rates(config.updates_per_second, config.updates_burst)
        self._made = Rates(config.made_per_second, max(1, int(config.made_per_second)))
        self._answers: dict[tuple[bytes, bool], _Kept] = {}
        """By the question's bytes behind its number."""
        self._seen: OrderedDict[bytes, tuple[float, dns.rcode.Rcode]] = OrderedDict()

    def respond(self, wire: bytes, *, udp: bool) -> bytes | UpdateMessage | None:
        """Return the response to a message, or the update that `update` must answer; None where
        there must be no response: to what is no message, and to a response, which two servers would
        send to and fro for ever."""
        if len(wire) < _HEADER.size or wire[2] & 0x80:
            self._count(udp, "dropped")
            return None
        known = self._known(wire, udp)
        if known is not None:
            return known
        if udp and self._made.take("", self._clock()):
            self._count(udp, "limited")
            return self.truncated(wire)
        opcode = (wire[2] >> 3) & 0x0F
        if opcode not in (dns.opcode.QUERY, dns.opcode.UPDATE):
            return self._bare(wire, dns.rcode.NOTIMP, udp)
        try:
            read = self._read(wire)
        except _PARSE_ERRORS:
            return self._bare(wire, dns.rcode.FORMERR, udp)
        if isinstance(read, _Unsigned):
            self._count(udp, dns.rcode.to_text(read.error, tsig=True))
            return self._signature_failed(read)
        if isinstance(read, UpdateMessage):
            return read
        response = answer_query(self._zone, read)
        out = self._finish(read, response, udp)
        if response.answer and not read.had_tsig:
            self._keep(wire, udp, read.question[0].name, out)
        return out

    async def update(self, message: UpdateMessage, *, udp: bool) -> bytes:
        """Make an update, and return the response: what it acknowledges is on the disk."""
        return self._finish(message, skeleton(message, await self._update(message)), udp)

    def _finish(self, read: dns.message.Message, response: dns.message.Message, udp: bool) -> bytes:
        self._count(udp, dns.rcode.to_text(response.rcode()))
        limit = max(512, min(read.payload if read.edns >= 0 else 512, PAYLOAD)) if udp else 65_535
        try:
            return response.to_wire(max_size=limit, prefer_truncation=True)
        except dns.exception.TooBig:
            response = skeleton(read, dns.rcode.NOERROR)
            response.flags |= dns.flags.TC
            return response.to_wire(max_size=limit)

    def truncated(self, wire: bytes) -> bytes | None:
        """Return an answer that says "come by TCP" and no more: for whom answers are limited."""
        if len(wire) < _HEADER.size or wire[2] & 0x80:
            return None
        try:
            # No resolver takes an answer without its question.
            _, length = dns.name.from_wire(wire, _HEADER.size)
        except _PARSE_ERRORS:
            return None
        question = wire[_HEADER.size : _HEADER.size + length + 4]
        head = self._bare(wire, dns.rcode.NOERROR, True, dns.flags.TC)
        return head[:4] + b"\x00\x01" + head[6:] + question

    # -- what was just asked --------------------------------------------------------------------

    def _known(self, wire: bytes, udp: bool) -> bytes | None:
        """Return the answer to the same question, if nothing of its peer has changed since: making
        one anew takes ten times as long."""
        kept = self._answers.get((wire[2:], udp))
        if kept is None or self._zone.version_of(kept.guid) != kept.version:
            return None
        self._count(udp, "NOERROR")
        return wire[:2] + kept.rest

    def _keep(self, wire: bytes, udp: bool, name: dns.name.Name, response: bytes) -> None:
        guid = self._zone.peer_of(name)
        if guid is None:
            return
        if len(self._answers) >= _MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        version = self._zone.version_of(guid)
        self._answers[wire[2:], udp] = _Kept(guid, version, response[2:])

    # -- reading --------------------------------------------------------------------------------

    def _read(self, wire: bytes) -> dns.message.Message | _Unsigned:
        def find(message: dns.message.Message, name: dns.name.Name) -> dns.tsig.Key | None:
            found.append(self._keys.find(name))
            return found[0]

        found: list[dns.tsig.Key | None] = []
        error: dns.rcode.Rcode
        try:
            return dns.message.from_wire(wire, keyring=cast(Any, find))
        except dns.message.UnknownTSIGKey:
            error = dns.rcode.BADKEY
        except dns.tsig.BadTime:
            error = dns.rcode.BADTIME
        except (dns.tsig.BadSignature, dns.tsig.BadAlgorithm, dns.tsig.PeerError):
            error = dns.rcode.BADSIG
        query = dns.message.from_wire(wire, keyring=False)
        signature, query.tsig = query.tsig, None
        if signature is None:
            raise ValueError("an error of a signature that is not there")
        return _Unsigned(query, signature, error, found[0] if found else None)

    # -- updates --------------------------------------------------------------------------------

    async def _update(self, message: UpdateMessage) -> dns.rcode.Rcode:
        if not message.had_tsig or message.keyname is None:
            return dns.rcode.REFUSED
        guid = self._zone.peer_of(message.keyname)
        if guid is None:
            return dns.rcode.REFUSED
        seen = self._seen_before(message.mac or b"")
        if seen is not None:
            return seen
        code = dns.rcode.SERVFAIL
        made = False
        try:
            if self._update_rates.take(guid, self._clock()):
                code = dns.rcode.REFUSED
            elif self._waiting < _MAX_WAITING:
                code = await self._make(guid, message)
                made = code != dns.rcode.SERVFAIL
        finally:
            # What was put off, and not judged, may be sent again as it is.
            if made:
                self._seen[message.mac or b""] = self._clock(), code
            else:
                self._seen.pop(message.mac or b"", None)
        return code

    async def drop_old(self) -> None:
        """Drop what no update has renewed for long."""
        async with self._updating:
            with contextlib.suppress(StoreFailed):
                for guid in await self._store.drop_old(self._config.remember):
                    self._zone.replace(guid, {})

    async def _make(self, guid: str, message: UpdateMessage) -> dns.rcode.Rcode:
        self._waiting += 1
        try:
            async with self._updating:
                sets = updated(self._zone, self._config, guid, message)
                await self._store.put(guid, self._zone.to_stored(sets))
                self._zone.replace(guid, sets)
        except UpdateFailed as failed:
            return failed.code
        except StoreFailed as failed:
            log.error("a DNS update cannot be stored", peer=short(guid), reason=str(failed))
            return dns.rcode.SERVFAIL
        finally:
            self._waiting -= 1
        log.info("DNS update", peer=short(guid), names=len(sets))
        return dns.rcode.NOERROR

    def _seen_before(self, mac: bytes) -> dns.rcode.Rcode | None:
        """Return what this very message was answered with when it came before: it may be sent again
        because the answer was lost, or by somebody who has read it. It is never made twice.

        What is older than the time for which a signature holds needs no memory.
        """
        now = self._clock()
        while self._seen and (
            len(self._seen) >= _MAX_SEEN or next(iter(self._seen.values()))[0] < now - 2 * _FUDGE
        ):
            self._seen.popitem(last=False)
        if mac in self._seen:
            return self._seen[mac][1]
        self._seen[mac] = now, dns.rcode.SERVFAIL  # While it waits for the store.
        return None

    # -- answers that are no zone's -------------------------------------------------------------

    def _bare(
        self, wire: bytes, code: dns.rcode.Rcode, udp: bool, flags: dns.flags.Flag | int = 0
    ) -> bytes:
        """Return a header alone: the rest of the message may be anything."""
        self._count(udp, dns.rcode.to_text(code))
        identity, given = struct.unpack("!HH", wire[:4])
        kept = given & (0x7800 | dns.flags.RD)
        return _HEADER.pack(identity, dns.flags.QR | kept | flags | code, 0, 0, 0, 0)

    def _signature_failed(self, read: _Unsigned) -> bytes:
        """RFC 8945 §5.2: NOTAUTH, with the reason in a TSIG record. Only a wrong clock is answered
        with a signature: the key is right then, and the client must be able to believe the time."""
        query = read.query
        name, theirs = read.signature.name, cast(Any, read.signature)[0]
        response = skeleton(query, dns.rcode.NOTAUTH)
        wire = response.to_wire()
        bad_time = read.error == dns.rcode.BADTIME and read.key is not None
        other = int(self._clock()).to_bytes(6, "big") if bad_time else b""
        record = cast(Any, dns.rdtypes.ANY.TSIG.TSIG)(
            dns.rdataclass.ANY,
            dns.rdatatype.TSIG,
            theirs.algorithm,
            theirs.time_signed,
            _FUDGE,
            b"",
            query.id,
            read.error,
            other,
        )
        if bad_time:
            record, _ = cast(Any, dns.tsig.sign)(
                wire, read.key, record, theirs.time_signed, theirs.mac
            )
        return _with_record(wire, name, record)

    def _count(self, udp: bool, outcome: str) -> None:
        self._metrics.dns["udp" if udp else "tcp", outcome] += 1


def _with_record(wire: bytes, name: dns.name.Name, record: Any) -> bytes:
    """Append a TSIG record to a message."""
    data: bytes = record.to_wire()
    head = struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(data))
    (additional,) = struct.unpack("!H", wire[10:12])
    owner: bytes = name.to_wire() or b""
    return wire[:10] + struct.pack("!H", additional + 1) + wire[12:] + owner + head + data
