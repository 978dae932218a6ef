"""The session state machine: numbers, acknowledgements, resume, clean close."""

from protocol.session.closed import ClosedSession
from protocol.session.early import EARLY_BYTES, NO_EARLY, Early
from protocol.session.events import Ended, HelpWanted, Moved, PathDead, SwitchedToo
from protocol.session.keepalive import Keepalive, Keepalives, agreed_quiet
from protocol.session.machine import SessionMachine
from protocol.session.settings import MAX_PAYLOAD, SessionSettings
from protocol.session.standby import QUIET_INTERVAL, Standby, SwitchAsked
from protocol.session.states import State

__all__ = [
    "EARLY_BYTES",
    "MAX_PAYLOAD",
    "NO_EARLY",
    "QUIET_INTERVAL",
    "ClosedSession",
    "Early",
    "Ended",
    "HelpWanted",
    "Keepalive",
    "Keepalives",
    "Moved",
    "PathDead",
    "SessionMachine",
    "SessionSettings",
    "Standby",
    "State",
    "SwitchAsked",
    "SwitchedToo",
    "agreed_quiet",
]
