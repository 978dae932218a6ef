"""The session state machine: numbers, acknowledgements, resume, clean close."""

from protocol.session.closed import ClosedSession
from protocol.session.events import Ended, Moved, PathDead
from protocol.session.machine import SessionMachine
from protocol.session.settings import MAX_PAYLOAD, SessionSettings
from protocol.session.states import State

__all__ = [
    "MAX_PAYLOAD",
    "ClosedSession",
    "Ended",
    "Moved",
    "PathDead",
    "SessionMachine",
    "SessionSettings",
    "State",
]
