"""What may happen to the stream under an open path or flow: the one door through which tests reach
it."""

from peers import Session
from peers.control import ControlConnection
from peers.path import PathEnd
from peers.transport import Stream
from peers.transport.tcp import RawStream

__all__ = ["abort_flow", "mute", "mute_flow", "reset", "stream_of"]


def stream_of(path: PathEnd) -> Stream:
    """Return the stream that carries a path."""
    return path._stream


def mute(session: Session) -> bool:
    """From now on the session's path carries nothing, and nobody is told."""
    return session.path is not None and _mute(stream_of(session.path))


def mute_flow(connection: ControlConnection) -> bool:
    """The same for a flow to the relay."""
    return _mute(connection._messages.stream)


def abort_flow(connection: ControlConnection) -> None:
    """A flow to the relay is cut, as when the other program is killed."""
    connection._messages.stream.abort()
    connection._messages.stream_lost("cut")


def reset(session: Session) -> bool:
    """The session's path is reset, as by a router that has lost its state."""
    if session.path is None:
        return False
    stream_of(session.path).abort()
    return True


def _mute(stream: Stream) -> bool:
    if not isinstance(stream, RawStream) or stream.transport is None:
        return False
    stream.transport.pause_reading()
    stream.write = lambda data: None  # type: ignore[method-assign]
    return True
