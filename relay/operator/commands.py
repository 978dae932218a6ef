"""What an operator asks a running relay, and what it answers: one JSON object each way.

Values only. Times are Unix time, durations seconds.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from protocol.errors import RoamRelayError
from relay.tally import KEPT, Column

__all__ = [
    "MAX_LISTED",
    "Allow",
    "Announce",
    "Answer",
    "Asked",
    "Ban",
    "BanShown",
    "Bans",
    "BansShown",
    "Done",
    "Drain",
    "Failed",
    "Forget",
    "InvitationShown",
    "Invitations",
    "InvitationsShown",
    "NodeShown",
    "OperatorError",
    "PeerShown",
    "Peers",
    "PeersShown",
    "ProcessShown",
    "Revoke",
    "Status",
    "StatusShown",
    "Top",
    "TopShown",
    "Used",
]

MAX_LISTED = 10_000
"""Rows of one answer."""

_Subject = Annotated[str, Meta(min_length=1, max_length=80)]
_Limit = Annotated[int, Meta(ge=1, le=MAX_LISTED)]


class OperatorError(RoamRelayError):
    """The relay could not be asked, or did not do it. Says the next step."""


class _Asked(msgspec.Struct, frozen=True, tag_field="command", forbid_unknown_fields=True):
    pass


class Ban(_Asked, frozen=True, tag="ban"):
    """Keep a GUID or a network out, and end what it has here."""

    subject: _Subject
    seconds: Annotated[float, Meta(gt=0, le=1e10)] | None = None
    """None: until it is lifted."""
    reason: Annotated[str, Meta(max_length=256)] = ""


class Allow(_Asked, frozen=True, tag="allow"):
    """Lift a ban; put a GUID on the list."""

    subject: _Subject


class Revoke(_Asked, frozen=True, tag="revoke"):
    """Take back the admission of a GUID, or an invitation."""

    subject: _Subject
    keep_peers: bool = False
    """Whether who has come by the invitation may stay."""


class Peers(_Asked, frozen=True, tag="peers"):
    """Who is here."""

    limit: _Limit = 1000


class Top(_Asked, frozen=True, tag="top"):
    """Who uses most of the relay, and how the relay is."""

    by: Column = "bytes"
    limit: Annotated[int, Meta(ge=1, le=4 * KEPT)] = 20


class Bans(_Asked, frozen=True, tag="bans"):
    """Who is kept out."""

    limit: _Limit = 1000


class Invitations(_Asked, frozen=True, tag="invitations"):
    """What invitations the relay knows."""

    limit: _Limit = 1000


class Status(_Asked, frozen=True, tag="status"):
    """How the relay is."""


class Drain(_Asked, frozen=True, tag="drain"):
    """End it as SIGTERM does."""


class Forget(_Asked, frozen=True, tag="forget"):
    """Remove what is kept of a GUID; end what it has here."""

    subject: _Subject


class Announce(_Asked, frozen=True, tag="announce"):
    """Know an invitation before anybody comes by it: its statement."""

    statement: Annotated[bytes, Meta(max_length=1024)]


Asked: TypeAlias = (
    Ban | Allow | Revoke | Peers | Top | Bans | Invitations | Announce | Forget | Status | Drain
)


class _Answer(msgspec.Struct, frozen=True, tag_field="answer"):
    pass


class Done(_Answer, frozen=True, tag="done"):
    """It is done, stored, and holds for who is here."""

    subject: str
    said: str
    """What was done, in words."""
    ended: int = 0
    """Connections that were ended by it."""


class Failed(_Answer, frozen=True, tag="failed"):
    """Nothing was done."""

    reason: str


class PeerShown(msgspec.Struct, frozen=True):
    """One peer that is here."""

    guid: str
    sources: tuple[str, ...]
    services: tuple[str, ...]
    since: float
    """When the oldest of its connections came."""
    invitation: str | None
    """The id of the one that it came by."""
    sent: int = 0
    """Bytes that have come from it; this and what follows as in `Used`."""
    received: int = 0
    planes: int = 0
    requests: int = 0
    refusals: int = 0


class PeersShown(_Answer, frozen=True, tag="peers"):
    """Some of those who are here, and how many there are."""

    total: int
    peers: tuple[PeerShown, ...]
    silent: tuple[str, ...] = ()
    """The processes of the relay that did not answer in time: of those nobody is here."""


class Used(msgspec.Struct, frozen=True):
    """What one peer has had since the relay began to keep it among those who have most, at the
    earliest since the relay's start."""

    guid: str
    here: bool
    """Whether it is registered now."""
    sent: int
    """Bytes that have come from it: messages, and through planes."""
    received: int
    """Bytes that went to it."""
    planes: int
    """That were joined, for it or with it."""
    requests: int
    """Service requests that it has made."""
    refusals: int
    """What the relay has refused it because a limit was reached, or as it is not admitted."""


class ProcessShown(msgspec.Struct, frozen=True):
    """The relay's process. None is what the system does not say."""

    cpu_seconds: float
    resident_bytes: int | None
    descriptors: int | None
    max_descriptors: int | None
    started: float


class TopShown(_Answer, frozen=True, tag="top"):
    """Those who use most of the relay, and how the relay is. Counts are since its start."""

    at: float
    """When this was, by a clock that only grows: rates are made from two of these."""
    build: dict[str, str]
    process: ProcessShown
    loop_lag: float
    """The most that the loop was late in the last 10 to 20 s."""
    connections: int
    registered: int
    planes: int
    """That are joined now."""
    messages_in: int
    messages_out: int
    requests: int
    refusals: int
    plane_bytes: int
    peers: tuple[Used, ...]
    silent: tuple[str, ...] = ()
    """The processes of the relay that did not answer in time: nothing of those is counted."""


class NodeShown(msgspec.Struct, frozen=True):
    """One process of several that are one relay on this machine."""

    node: str
    is_here: bool
    """Whether it answers: one that has ended is started anew."""
    started: float = 0.0
    registered: int = 0
    connections: int = 0
    planes: int = 0


class StatusShown(_Answer, frozen=True, tag="status"):
    """How the relay is."""

    guid: str
    former: tuple[str, ...]
    """Under which GUIDs of before it answers too."""
    urls: tuple[str, ...]
    admin_urls: tuple[str, ...]
    draining: bool
    admission: str
    state: str | None
    started: float
    build: dict[str, str]
    registered: int
    connections: int
    planes: int
    nodes: tuple[NodeShown, ...] = ()
    """The processes that it is, where it is several: what is above is of all."""


class BanShown(msgspec.Struct, frozen=True):
    """One ban."""

    subject: str
    since: float
    expires: float | None
    reason: str


class BansShown(_Answer, frozen=True, tag="bans"):
    """Some of the bans, and how many there are."""

    total: int
    bans: tuple[BanShown, ...]


class InvitationShown(msgspec.Struct, frozen=True):
    """One invitation."""

    id: str
    note: str
    expires: float
    uses: int
    used: int
    revoked: float | None


class InvitationsShown(_Answer, frozen=True, tag="invitations"):
    """Some of the invitations, and how many there are."""

    total: int
    invitations: tuple[InvitationShown, ...]


Answer: TypeAlias = (
    Done | Failed | PeersShown | TopShown | BansShown | InvitationsShown | StatusShown
)
