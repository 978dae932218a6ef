"""What reading a DNS message will cost, told before anybody reads it.

A name may be a pointer of two bytes to 127 labels, and a message of 64 KiB has room for thousands
of them: whoever reads it as it comes does nothing else for seconds. Here everything is counted that
a reader would have to make (labels after decompression, records, character-strings, options), with
an end as soon as it is too much. What a message means is not looked at. Source: RFC 1035 §4.1;
RFC 2136 §2; RFC 6891 §6.1.
"""

from dataclasses import dataclass

from protocol.errors import ProtocolViolation

__all__ = ["Counts", "Reader", "TooCostly", "Weight", "counts_of", "question_end", "weigh"]

_HEADER = 12
_POINTER = 0xC0
_A, _NS, _CNAME, _SOA, _TXT, _AAAA, _SRV, _OPT, _TSIG = 1, 2, 5, 6, 16, 28, 33, 41, 250
_IN, _NONE = 1, 254
"""Classes whose data are read by type; an update takes records away in class NONE."""
_RECORD, _OPTION = 4, 2
"""Steps of what becomes an object of its own."""
_FIXED = 10
"""Bytes of a record behind its name: type, class, time to live, bytes of data (RFC 1035 §3.2.1)."""
_LONGEST_NAME = 128
"""Labels, with the root's: 255 bytes hold no more."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who does not read all of a message."""

    records: int
    """Of the first ones, so many are read."""
    kinds: frozenset[int]
    """Types of records whose data are read; the others are passed over."""


class TooCostly(ProtocolViolation):
    """Reading it takes more steps than it may."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Records by section, as the header says; of an update: zone, prerequisites, updates."""

    questions: int
    answers: int
    authorities: int
    additional: int

    @property
    def records(self) -> int:
        """All but the questions."""
        return self.answers + self.authorities + self.additional


@dataclass(frozen=True, slots=True)
class Weight:
    """What a message has, as far as it was counted."""

    counts: Counts
    steps: int
    """Labels, records, strings and options that a reader makes of it."""
    question_labels: int
    """Of the first question's name, with the root's; 0 where there is none."""
    question_end: int
    """Where the first question ends; 12 where there is none."""
    payload: int | None
    """Bytes of a datagram that its sender takes (EDNS); None: it does not say."""
    edns: int
    """The version of EDNS; -1: none."""
    signature: int | None
    """Where its last record begins, if that is a TSIG record."""


def counts_of(wire: bytes) -> Counts:
    """Read the header's counts.

    Raises:
        ProtocolViolation: it is shorter than a header.
    """
    if len(wire) < _HEADER:
        raise ProtocolViolation("shorter than a DNS header")
    return Counts(*(_number(wire, place) for place in range(4, _HEADER, 2)))


def weigh(wire: bytes, most: int, reader: Reader | None = None) -> Weight:
    """Count what reading a whole message takes, or as much of it as `reader` reads. In a whole one
    there must be nothing behind the last record.

    Raises:
        TooCostly: more than `most` steps.
        ProtocolViolation: malformed; what is found is not all there is to find.
    """
    counts = counts_of(wire)
    scale = _Scale(wire, most, reader.kinds if reader else None)
    records = min(counts.records, reader.records) if reader else counts.records
    labels, end = 0, _HEADER
    try:
        for number in range(counts.questions):
            of_this = scale.name()
            scale.skip(4)
            if not number:
                labels, end = of_this, scale.place
        signature = None
        for _ in range(records):
            begin = scale.place
            signature = begin if scale.record() == _TSIG else None
    except IndexError:
        raise ProtocolViolation("a DNS message that ends too early") from None
    if records == counts.records and scale.place != len(wire):
        raise ProtocolViolation("there is more behind a DNS message")
    if not counts.additional or records < counts.records:
        signature = None
    return Weight(counts, scale.steps, labels, end, scale.payload, scale.edns, signature)


def question_end(wire: bytes) -> int | None:
    """Return where the first question ends; None where there is none that could be sent back."""
    try:
        if not counts_of(wire).questions:
            return None
        scale = _Scale(wire, _LONGEST_NAME + 1)
        scale.name()
        scale.skip(4)
    except (ProtocolViolation, IndexError):
        return None
    return scale.place


def _number(wire: bytes, place: int) -> int:
    return wire[place] << 8 | wire[place + 1]


class _Scale:
    """Passes over one message, from its first question on."""

    def __init__(self, wire: bytes, most: int, kinds: frozenset[int] | None = None) -> None:
        self._wire = wire
        self._end = len(wire)
        self._most = most
        self._kinds = kinds
        self.place = _HEADER
        self.steps = 0
        self.payload: int | None = None
        self.edns = -1

    def skip(self, count: int) -> None:
        self.place += count
        if self.place > self._end:
            raise IndexError

    def name(self) -> int:
        """Pass over a name; return its labels."""
        labels, self.place = self._name_at(self.place)
        return labels

    def record(self) -> int:
        """Pass over a record; return its type."""
        self._step(_RECORD)
        _, head = self._name_at(self.place)
        data = self.place = head + _FIXED
        if data > self._end:
            raise IndexError
        # One call: there may be thousands of records, and nobody has signed for them yet.
        fixed = int.from_bytes(self._wire[head:data], "big")
        kind, of_class, size = fixed >> 64, fixed >> 48 & 0xFFFF, fixed & 0xFFFF
        self.skip(size)
        if of_class in (_IN, _NONE) or kind != _SRV:
            self._weigh_data(kind, data, size)
        # Else it is only bytes: of SRV there is none in another class.
        if kind == _OPT:
            self.payload, self.edns = of_class, fixed >> 32 & 0xFF
        return kind

    # -- inside ---------------------------------------------------------------------------------

    def _step(self, count: int) -> None:
        self.steps += count
        if self.steps > self._most:
            raise TooCostly(f"a DNS message of more than {self._most} parts")

    def _name_at(self, place: int) -> tuple[int, int]:
        """Return the labels of the name at `place`, and where what follows it begins."""
        wire = self._wire
        labels, octets, after, lowest = 1, 1, 0, place
        while length := wire[place]:
            if length >= _POINTER:
                target = (length & 0x3F) << 8 | wire[place + 1]
                after = after or place + 2
                # Only backward, so that there is an end.
                if target >= lowest or target < _HEADER:
                    raise ProtocolViolation("a DNS name that leads forward")
                place = lowest = target
                continue
            if length > 63:
                raise ProtocolViolation("a DNS label of an unknown kind")
            labels += 1
            octets += length + 1
            if octets > 255:
                raise ProtocolViolation("a DNS name of more than 255 bytes")
            place += length + 1
        self._step(labels)
        return labels, after or place + 1

    def _weigh_data(self, kind: int, data: int, size: int) -> None:
        if not size or kind in (_A, _AAAA) or (self._kinds is not None and kind not in self._kinds):
            return
        if kind == _TXT:
            self._strings(data, data + size)
        elif kind == _OPT:
            self._options(data, data + size)
        elif kind == _SRV and size > 6:
            self._name_at(data + 6)
        elif kind in (_TSIG, _NS, _CNAME):
            self._name_at(data)
        elif kind == _SOA:
            _, behind = self._name_at(data)
            self._name_at(behind)
        else:
            # Each two bytes of any other kind may be a pointer to a whole name.
            self._step(_LONGEST_NAME * (size // 2 + 1))

    def _strings(self, place: int, end: int) -> None:
        while place < end:
            place += self._wire[place] + 1
            self._step(1)
        if place > end:
            raise ProtocolViolation("a TXT record that ends too early")

    def _options(self, place: int, end: int) -> None:
        while place < end:
            place += _number(self._wire, place + 2) + 4
            self._step(_OPTION)
        if place > end:
            raise ProtocolViolation("an OPT record that ends too early")
