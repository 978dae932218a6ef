"""The terms of a session: what both sides agreed on, and what this side wants of its paths."""

from dataclasses import dataclass

from peers.choice import Select
from peers.config import NO_POLICY, PathFacts, PathKind, Policy
from protocol.features import CONVERSATION, RELAY_FALLBACK
from protocol.messages import Mode

__all__ = ["Terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """They hold from `connect`, or from the request, to the end of the session."""

    remote: str
    """The GUID of the other peer."""
    service: str
    mode: Mode
    is_caller: bool
    """Whether this side has opened the session."""
    discloses: bool
    """Whether the other side may learn this side's addresses: else nothing is dialed from here
    directly, and no entries are told."""
    policy: Policy = NO_POLICY
    select: Select | str = "fastest"
    """`fastest`, `latest`, or the program's own choice among candidates."""
    fallback: bool = False
    """Whether a session in `combined` may go on over the relay, as far as this side says."""
    conversation: bool = False
    """Whether this side wants it to carry a conversation."""

    @property
    def features(self) -> tuple[str, ...]:
        """What this side names at the head of the session's paths."""
        relayed = self.policy.refusal(PathFacts(PathKind.RELAYED)) is None
        falls_back = self.mode is Mode.COMBINED and self.fallback and relayed
        named = (RELAY_FALLBACK,) if falls_back else ()
        return (*named, CONVERSATION) if self.conversation else named
