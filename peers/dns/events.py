"""What the registration's machine and its shell tell each other."""

from dataclasses import dataclass

from protocol.dns_records import ZoneRecord, zone_record_text
from protocol.errors import RoamRelayError

__all__ = [
    "NOTHING",
    "Action",
    "Answered",
    "Begin",
    "Changed",
    "Confirm",
    "Conflict",
    "End",
    "Event",
    "Failed",
    "Followed",
    "Found",
    "GiveUp",
    "Look",
    "NotRegistered",
    "Refused",
    "Registered",
    "Remove",
    "Taken",
    "Update",
    "Withdraw",
]


@dataclass(frozen=True, slots=True)
class Followed:
    """What a zone holds of a peer: the record that the next update follows."""

    record: ZoneRecord
    text: str
    """The data of the TXT record, as an update names it; empty where there is none."""
    others: tuple[str, ...] = ()
    """The data of other programs' TXT records at the same name."""
    obstacle: str = ""
    """What stands at the peer's name so that nothing can be registered there, in one sentence."""

    @classmethod
    def of(cls, record: ZoneRecord) -> "Followed":
        """Return what the zone holds when it has taken this record."""
        return cls(record, zone_record_text(record))


NOTHING = Followed(ZoneRecord(0, ()), "")
"""There is no record of the peer."""


# -- what the shell tells -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """Register from now on."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What this peer says may be different now, or the way on which it says it."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take the records back, once, and stop."""


@dataclass(frozen=True, slots=True)
class End:
    """Stop where it is: nobody waits for anything any more."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Comes of what an action began; the `attempt` is the action's. One that comes late, after
    something else was begun, changes nothing."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Found(Answered):
    """The zone holds this of the peer. Anybody on the way may have said so, unless it was
    `confirmed`: by an answer that the server has signed."""

    followed: Followed
    confirmed: bool = False
    proven: bool = False
    """Whether this peer's key has signed an entry of it under a number above ours: there is another
    instance, whoever has put its record there."""


@dataclass(frozen=True, slots=True)
class Taken(Answered):
    """The update is made."""


@dataclass(frozen=True, slots=True)
class Conflict(Answered):
    """The update is not made: the zone holds another record than it follows."""

    said: str
    """The server, and its word."""


@dataclass(frozen=True, slots=True)
class Refused(Answered):
    """The update is not made, for a reason that the server has given under its signature."""

    error: RoamRelayError


@dataclass(frozen=True, slots=True)
class Failed(Answered):
    """There was no answer that counts: an update may have been made."""

    error: RoamRelayError


Event = Begin | Changed | Withdraw | End | Found | Taken | Conflict | Refused | Failed


# -- what the shell does --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End what is under way; its answer counts no more."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask what the zone holds: `Found` or `Failed`."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ask again what the zone holds so that nobody else can answer, and whether there is another
    instance that has signed something under a number above this: `Found` or `Failed`."""

    attempt: int
    above: int


@dataclass(frozen=True, slots=True)
class Update:
    """Make the record of now under a number above the given one, ask `sending`, send it: `Taken`,
    `Conflict`, `Refused` or `Failed`."""

    attempt: int
    followed: Followed
    above: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Send the update that takes all records away: `Taken`, `Conflict`, `Refused` or `Failed`."""

    attempt: int
    followed: Followed


@dataclass(frozen=True, slots=True)
class Registered:
    """The zone holds this record."""

    record: ZoneRecord


@dataclass(frozen=True, slots=True)
class NotRegistered:
    """The zone does not hold what it should: another server may."""

    failure: RoamRelayError


Action = GiveUp | Look | Confirm | Update | Remove | Registered | NotRegistered
