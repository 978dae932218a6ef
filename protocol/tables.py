"""Which messages each side understands, by their `type`: what a decoder is made for."""

from protocol.mail import (
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
    PrekeyRequest,
    PrekeyResponse,
)
from protocol.messages import (
    Challenge,
    DnsKeyRequest,
    DnsKeyResponse,
    EndpointQuery,
    EndpointResponse,
    Error,
    Hello,
    Message,
    PathHello,
    PathReject,
    PathWelcome,
    PeerEvent,
    Ping,
    Pong,
    Register,
    Registered,
    Restarting,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Watch,
)

__all__ = ["FROM_PEER", "FROM_RELAY", "ON_PATH"]


def _table(*classes: type[Message]) -> dict[str, type[Message]]:
    return {str(cls.__struct_config__.tag): cls for cls in classes}


FROM_PEER = _table(
    Hello,
    Register,
    Update,
    ServiceRequestTo,
    ServiceAnswer,
    Watch,
    EndpointQuery,
    DnsKeyRequest,
    MailboxUpdate,
    PrekeyRequest,
    LetterLeave,
    LetterWindow,
    LetterDone,
    Ping,
    Pong,
    Error,
)
"""What a relay understands, by `type`."""
FROM_RELAY = _table(
    Challenge,
    Registered,
    ServiceRequestFrom,
    ServiceResponse,
    PeerEvent,
    EndpointResponse,
    DnsKeyResponse,
    MailboxState,
    PrekeyResponse,
    LetterResponse,
    Letter,
    Restarting,
    Ping,
    Pong,
    Error,
)
"""What a peer understands on a control connection, by `type`."""
ON_PATH = _table(PathHello, PathWelcome, PathReject)
"""What stands at the head of a path, by `type`."""
