"""Where a control connection is in its life; what is understood in which state is beside the
handlers, in `relay.control.connection`.
"""

from enum import Enum

__all__ = ["State"]


class State(Enum):
    """Where a control connection is in its life."""

    AWAITING_HELLO = "awaiting hello"
    AWAITING_REGISTER = "awaiting register"
    AWAITING_ADMISSION = "awaiting admission"
    """The peer has proven its key; whether it is admitted is being decided."""
    REGISTERED = "registered"
    CLOSED = "closed"
