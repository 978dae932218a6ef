"""The operator's door: who is here, who may come, and who has to go; on this machine alone."""

from relay.operator.commands import (
    Allow,
    Announce,
    Answer,
    Asked,
    Ban,
    Bans,
    BanShown,
    BansShown,
    Done,
    Failed,
    Invitations,
    InvitationShown,
    InvitationsShown,
    OperatorError,
    Peers,
    PeerShown,
    PeersShown,
    Revoke,
)
from relay.operator.desk import Desk, Present
from relay.operator.local import LocalDoor, ask

__all__ = [
    "Allow",
    "Announce",
    "Answer",
    "Asked",
    "Ban",
    "BanShown",
    "Bans",
    "BansShown",
    "Desk",
    "Done",
    "Failed",
    "InvitationShown",
    "Invitations",
    "InvitationsShown",
    "LocalDoor",
    "OperatorError",
    "PeerShown",
    "Peers",
    "PeersShown",
    "Present",
    "Revoke",
    "ask",
]
