"""The session state machine: numbers, acknowledgements, resume, clean close."""

from protocol.session.closed import ClosedSession
from protocol.session.early import EARLY_BYTES, NO_EARLY, Early
from protocol.session.events import Ended, HelpWanted, Moved, PathDead
from protocol.session.machine import SessionMachine
from protocol.session.settings import MAX_PAYLOAD, SessionSettings
from protocol.session.standby import Standby, SwitchAsked
from protocol.session.states import State

__all__ = [
    "EARLY_BYTES",
    "MAX_PAYLOAD",
    "NO_EARLY",
    "ClosedSession",
    "Early",
    "Ended",
    "HelpWanted",
    "Moved",
    "PathDead",
    "SessionMachine",
    "SessionSettings",
    "Standby",
    "State",
    "SwitchAsked",
]
