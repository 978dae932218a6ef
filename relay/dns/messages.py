"""One DNS message in, one out: what it may cost, reading, and which code says what is wrong.

Rule 1: a message is weighed before it is read. A query has one question and hardly anything else;
    more is read of an update alone, and only under a signature that holds.
Rule 2: records of an update are read a few at a time, and others get their turn between them.

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

from protocol.dns_weight import TooCostly, Weight, question_end, weigh
from protocol.errors import ProtocolViolation
from relay.backplane import ZoneUpdate
from relay.config import DnsConfig
from relay.dns.answer import PAYLOAD, answer_query, skeleton
from relay.dns.keys import DnsKeys
from relay.dns.plain import Answer, Plain, answer_of, read_plain, spell
from relay.dns.signed import FUDGE, BadSignature, SignedMessage, UpdateReader, question_of, verify
from relay.dns.store import StoreFailed, StoreUnsure, ZoneStore
from relay.dns.update import UpdateFailed, updated
from relay.dns.zone import Records, Zone
from relay.limits import Rates
from relay.log import log, short
from relay.metrics import Metrics

__all__ = ["DnsMessages", "price"]

_MAX_SEEN = 16_384
"""Signatures of updates that are remembered, so that none is taken twice."""
_MAX_ANSWERS = 65_536
_MAX_ANSWER_BYTES = 32 << 20
"""Of all answers that are kept; the oldest go first."""
_MAX_WAITING = 256
"""Updates that may wait for the store."""
_QUERY_STEPS = 192
"""What reading a query may take (protocol/dns_weight.py): 0.5 ms."""
_MORE_LABELS = 16
"""By which a name that is asked for may be longer than the zone's: making an answer takes the
square of its labels, and those of peers have four more."""
_UPDATE_STEPS = 12_000
"""What reading an update may take; passing over as much, to find its signature, takes 2 ms."""
_AT_ONCE = 16
"""Records of an update that are read before others have their turn: 1 ms."""
_BYTES_PER_TOKEN, _STEPS_PER_TOKEN, _STEPS_PER_UPDATE = 4096, 256, 512
"""What costs as much as one plain answer, or as one plain update of a key."""
_HEADER = struct.Struct("!HHHHHH")
_PARSE_ERRORS = (dns.exception.DNSException, ValueError, struct.error, LookupError, UnicodeError)


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer with records, in every spelling of its question, and whose records it has."""

    guid: str
    version: tuple[object, ...]
    answer: Answer


def price(message: bytes | SignedMessage) -> float:
    """Return what a message costs, in plain answers: as it comes, and of an update that is to be
    read what that costs beside it."""
    if isinstance(message, SignedMessage):
        return message.weight.steps / _STEPS_PER_TOKEN
    return 1.0 + len(message) // _BYTES_PER_TOKEN


class DnsMessages:
    """Answers the messages of one zone."""

    def __init__(
        self,
        config: DnsConfig,
        zone: Zone,
        keys: DnsKeys,
        store: ZoneStore,
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
        self._to_drop: dict[str, None] = {}
        """Peers that had to go, and of whom something may be stored still."""
        self._update_rates = Rates(config.updates_per_second, config.updates_burst)
        self._made = Rates(config.made_per_second, max(1, int(config.made_per_second)))
        self._answers: dict[tuple[bytes, bytes], _Kept] = {}
        """By the name that was asked for, and type and class."""
        self._answer_bytes = 0
        self._seen: OrderedDict[bytes, tuple[float, dns.rcode.Rcode]] = OrderedDict()

    def respond(self, wire: bytes, *, udp: bool) -> bytes | SignedMessage | None:
        """Return the response to a message, or the update that `update` must answer; None where
        there must be no response: to what is no message, and to a response, which two servers would
        send to and fro for ever."""
        if len(wire) < _HEADER.size or wire[2] & 0x80:
            self._count(udp, "dropped")
            return None
        plain = read_plain(wire)
        if plain is not None and (known := self._known(wire, plain, udp)) is not None:
            return known
        if udp and self._made.take("", self._clock(), price(wire)):
            self._count(udp, "limited")
            return self.truncated(wire)
        opcode = (wire[2] >> 3) & 0x0F
        try:
            if opcode == dns.opcode.QUERY:
                return self._query(wire, plain, udp)
            if opcode == dns.opcode.UPDATE:
                return self._signed(wire, udp)
        except TooCostly:
            return self._bare(wire, dns.rcode.REFUSED, udp)
        except (ProtocolViolation, *_PARSE_ERRORS):
            return self._bare(wire, dns.rcode.FORMERR, udp)
        return self._bare(wire, dns.rcode.NOTIMP, udp)

    async def update(self, update: SignedMessage, host: str, *, udp: bool) -> bytes:
        """Make an update that comes from a host, and return the response: what it acknowledges is
        on the disk."""
        code = await self._update(update, host)
        question = question_of(update.wire, update.weight)
        response = skeleton(question, code)
        update.sign(response)
        return self._finish(question, response, udp)

    def _query(self, wire: bytes, plain: Plain | None, udp: bool) -> bytes:
        weight = weigh(wire, _QUERY_STEPS)
        if not _is_a_question(weight) or len(wire) > PAYLOAD:
            return self._bare(wire, dns.rcode.FORMERR, udp)
        if weight.question_labels > len(self._zone.origin) + _MORE_LABELS:
            return self._bare(wire, dns.rcode.REFUSED, udp)
        signed: SignedMessage | None = None
        if weight.signature is not None:
            verified = verify(wire, weight, weight.signature, self._keys, self._clock())
            if isinstance(verified, BadSignature):
                return self._signature_failed(verified, udp)
            signed = verified
        question = question_of(wire, weight)
        response = answer_query(self._zone, question)
        if signed is not None:
            signed.sign(response)
        out = self._finish(question, response, udp)
        if response.answer and plain is not None:
            self._keep(plain, question.question[0].name, out)
        return out

    def _signed(self, wire: bytes, udp: bool) -> bytes | SignedMessage:
        weight = weigh(wire, _UPDATE_STEPS)
        if weight.counts.questions != 1:
            return self._bare(wire, dns.rcode.FORMERR, udp)
        if (
            weight.signature is None
            or weight.question_labels > len(self._zone.origin) + _MORE_LABELS
        ):
            return self._bare(wire, dns.rcode.REFUSED, udp)
        update = verify(wire, weight, weight.signature, self._keys, self._clock())
        if isinstance(update, BadSignature):
            return self._signature_failed(update, udp)
        return update

    def _finish(self, read: dns.message.Message, response: dns.message.Message, udp: bool) -> bytes:
        self._count(udp, dns.rcode.to_text(response.rcode()))
        limit = _limit(read.payload if read.edns >= 0 else None, udp)
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
        # No resolver takes an answer without its question.
        end = question_end(wire)
        if end is None:
            return None
        question = wire[_HEADER.size : end]
        head = self._bare(wire, dns.rcode.NOERROR, True, dns.flags.TC)
        return head[:4] + b"\x00\x01" + head[6:] + question

    # -- what was just asked --------------------------------------------------------------------

    def _known(self, wire: bytes, plain: Plain, udp: bool) -> bytes | None:
        """Return the answer to a plain question from its wire form, if nothing of its peer has
        changed since: making one anew takes thirty times as long."""
        kept = self._answers.get((plain.name, plain.kind))
        if kept is None or self._zone.version_of(kept.guid) != kept.version:
            return None
        response = spell(wire, plain, kept.answer, _limit(plain.payload, udp), PAYLOAD)
        if response is not None:
            self._count(udp, "NOERROR")
        return response

    def _keep(self, plain: Plain, name: dns.name.Name, response: bytes) -> None:
        guid = self._zone.peer_of(name)
        answer = answer_of(plain, response)
        if guid is None or answer is None:
            return
        key = plain.name, plain.kind
        self._forget(key)
        self._answer_bytes += len(answer.rest)
        self._answers[key] = _Kept(guid, self._zone.version_of(guid), answer)
        while len(self._answers) > _MAX_ANSWERS or self._answer_bytes > _MAX_ANSWER_BYTES:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: tuple[bytes, bytes]) -> None:
        if (kept := self._answers.pop(key, None)) is not None:
            self._answer_bytes -= len(kept.answer.rest)

    # -- reading --------------------------------------------------------------------------------

    async def _records(self, update: SignedMessage) -> UpdateReader:
        reader = UpdateReader(update.wire, update.weight.counts)
        while reader.more(_AT_ONCE):
            await asyncio.sleep(0)
        return reader

    # -- updates --------------------------------------------------------------------------------

    async def _update(self, update: SignedMessage, host: str) -> dns.rcode.Rcode:
        guid = self._zone.peer_of(update.key.name)
        if guid is None or not self._zone.admits(guid, host):
            return dns.rcode.REFUSED
        seen = self._seen_before(update.mac)
        if seen is not None:
            return seen
        code = dns.rcode.SERVFAIL
        made = False
        try:
            cost = 1.0 + update.weight.steps // _STEPS_PER_UPDATE
            if self._update_rates.take(guid, self._clock(), cost):
                code = dns.rcode.REFUSED
            elif self._waiting < _MAX_WAITING:
                code = await self._make(guid, update, host)
                made = code != dns.rcode.SERVFAIL
        finally:
            # What was put off, and not judged, may be sent again as it is.
            if made:
                self._seen[update.mac] = self._clock(), code
            else:
                self._seen.pop(update.mac, None)
        return code

    async def drop_old(self) -> None:
        """Drop what no update has renewed for long."""
        async with self._updating:
            with contextlib.suppress(StoreFailed):
                await self._store.drop_old(self._config.remember)
        to_drop, self._to_drop = self._to_drop, {}
        for guid in to_drop:
            if not self._zone.admits(guid, ""):  # Still.
                await self.drop(guid)

    async def forget(self, guid: str) -> bool:
        """Drop what updates have stored of a peer, from the disk too; return whether there was
        anything.

        Raises:
            StoreFailed: it may be there still.
        """
        async with self._updating:
            held = self._zone.holds(guid)
            await self._store.forget(guid)
        return held

    async def drop(self, guid: str) -> None:
        """Drop what updates have stored of a peer that has to go; where that cannot be done now,
        later, if it may not come then."""
        try:
            await self.forget(guid)
        except StoreFailed as failed:
            log.info("not out of the zone yet", peer=short(guid), reason=str(failed))
            if len(self._to_drop) < _MAX_WAITING:
                self._to_drop[guid] = None

    def hear(self, update: ZoneUpdate) -> None:
        """Take what is registered for a peer now, by an update here or at another node."""
        self._zone.replace(update.guid, update.records, update.serial)
        if update.mac and not update.is_own:
            # It is not made here too; and its key has so much less to make here.
            self._seen[update.mac] = self._clock(), dns.rcode.NOERROR
            self._update_rates.charge(update.guid, self._clock(), 1.0)

    async def _make(self, guid: str, update: SignedMessage, host: str) -> dns.rcode.Rcode:
        self._waiting += 1
        sets: Records = {}
        try:
            records = await self._records(update)
            async with self._updating:
                if not self._zone.admits(guid, host):  # Any more: it has waited for others.
                    return dns.rcode.REFUSED

                def make() -> bytes:
                    nonlocal sets
                    seen = self._seen.get(update.mac)
                    if seen is not None and seen[1] == dns.rcode.NOERROR:
                        raise UpdateFailed(dns.rcode.NOERROR)  # At another node, meanwhile.
                    sets = updated(self._zone, self._config, guid, records)
                    return self._zone.to_stored(sets)

                await self._store.change(guid, update.mac, make)
        except UpdateFailed as failed:
            return failed.code
        except _PARSE_ERRORS:
            return dns.rcode.FORMERR
        except StoreUnsure as failed:
            # That nothing can be stored now was said when it began.
            log.info("a DNS update was not taken", peer=short(guid), reason=str(failed))
            return dns.rcode.SERVFAIL
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
            len(self._seen) >= _MAX_SEEN or next(iter(self._seen.values()))[0] < now - 2 * FUDGE
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

    def _signature_failed(self, read: BadSignature, udp: bool) -> bytes:
        """RFC 8945 §5.2: NOTAUTH, with the reason in a TSIG record. Only a wrong clock is answered
        with a signature: the key is right then, and the client must be able to believe the time."""
        self._count(udp, dns.rcode.to_text(read.error, tsig=True))
        query, theirs = read.question, read.signature.rdata
        response = skeleton(query, dns.rcode.NOTAUTH)
        wire = response.to_wire()
        bad_time = read.error == dns.rcode.BADTIME and read.key is not None
        other = int(self._clock()).to_bytes(6, "big") if bad_time else b""
        record = cast(Any, dns.rdtypes.ANY.TSIG.TSIG)(
            dns.rdataclass.ANY,
            dns.rdatatype.TSIG,
            theirs.algorithm,
            theirs.time_signed,
            FUDGE,
            b"",
            query.id,
            read.error,
            other,
        )
        if bad_time:
            record, _ = cast(Any, dns.tsig.sign)(
                wire, read.key, record, theirs.time_signed, theirs.mac
            )
        return _with_record(wire, read.signature.owner, record)

    def _count(self, udp: bool, outcome: str) -> None:
        self._metrics.dns["udp" if udp else "tcp", outcome] += 1


def _limit(payload: int | None, udp: bool) -> int:
    """Return how long an answer may be, to who takes so many bytes in a datagram."""
    if not udp:
        return 65_535
    return 512 if payload is None else max(512, min(payload, PAYLOAD))


def _is_a_question(weight: Weight) -> bool:
    """One question, and beside it a version for IXFR, EDNS and a signature at most."""
    counts = weight.counts
    return (
        counts.questions == 1
        and not counts.answers
        and counts.authorities <= 1
        and counts.additional <= 2
    )


def _with_record(wire: bytes, name: dns.name.Name, record: Any) -> bytes:
    """Append a TSIG record to a message."""
    data: bytes = record.to_wire()
    head = struct.pack("!HHIH", dns.rdatatype.TSIG, dns.rdataclass.ANY, 0, len(data))
    (additional,) = struct.unpack("!H", wire[10:12])
    owner: bytes = name.to_wire() or b""
    return wire[:10] + struct.pack("!H", additional + 1) + wire[12:] + owner + head + data
