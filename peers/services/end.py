"""A service as the rooms see it that bring sessions to it: who may ask, and what the record tells.

Programs see `Listener` alone.
"""

from dataclasses import dataclass, replace

from peers.location import Offered
from peers.services.admission import Admission
from peers.services.listener import Listener
from peers.session import Session
from protocol.errors import Code
from protocol.messages import Disclosure

__all__ = ["ConversationsEnd", "ListenerEnd", "Refusal"]

BACKLOG, BACKLOG_EACH = 256, 128
"""Sessions that may wait to be taken, in all and of one caller; further requests are refused with
`limit_exceeded`."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request or a path is refused."""

    code: Code
    reason: str


class ListenerEnd(Listener):
    """A listener with all that its peer needs of it."""

    takes_conversations = False
    """Whether its sessions carry conversations: all of them, or none."""

    @property
    def offered(self) -> Offered:
        """What the record tells of it."""
        return self._offered

    @property
    def admission(self) -> Admission:
        """Who may begin a session."""
        return self._admission

    def refusal(self, guid: str) -> Refusal | None:
        """Return why a request of this peer is refused; None where it is not."""
        if self.port is not None:
            return Refusal(Code.REFUSED, f"{self.service} is another program's: dial its endpoint")
        if self.allow is not None and guid not in self.allow:
            return Refusal(Code.REFUSED, f"{self.service} is not for this peer")
        if self._waiting.qsize() >= BACKLOG:
            return Refusal(
                Code.LIMIT_EXCEEDED, f"{BACKLOG} sessions already wait for {self.service}"
            )
        if self._waiting_of[guid] >= BACKLOG_EACH:
            return Refusal(
                Code.LIMIT_EXCEEDED, f"{BACKLOG_EACH} of your sessions wait for {self.service}"
            )
        return None

    def discloses_to(self, guid: str) -> bool:
        """Whether this peer may learn where the service is."""
        match self._offered.disclosure:
            case Disclosure.ANYONE:
                return True
            case Disclosure.LISTED:
                return guid in self._offered.listed
            case Disclosure.NOBODY:
                return False

    def offer(self, session: Session) -> None:
        """Queue a session for the application. Ask `refusal` first."""
        if self._closed:
            session.abort("the service is closed")
        else:
            self._waiting.put_nowait(session)
            self._waiting_of[session.remote] += 1


class ConversationsEnd(ListenerEnd):
    """A service whose sessions carry conversations; who may begin one changes as the program opens
    them."""

    takes_conversations = True

    def admit(self, guids: frozenset[str] | None) -> None:
        """Let these ask from now on; None lets anyone."""
        self._admission = replace(self._admission, allow=guids)
