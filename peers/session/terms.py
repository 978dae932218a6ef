"""The terms of a session: what both sides agreed on, and what this side wants of its paths."""

from dataclasses import dataclass

from peers.choice import Select
from peers.config import NO_POLICY, PathFacts, PathKind, Policy, StandbyWord
from protocol.features import CONVERSATION, RELAY_FALLBACK, STANDBY
from protocol.lock import Lock
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
    metadata: bytes = b""
    """What this side, which has opened the session, says to the other application."""
    standby: StandbyWord = StandbyWord.NEVER
    """Whether a second path may stand ready, unless the policy says otherwise."""
    locks: tuple[Lock, ...] = tuple(Lock)
    """What a path by the relay may be locked by, unless the policy says otherwise."""

    @property
    def standby_word(self) -> StandbyWord:
        """Whether a second path may stand ready. One that goes directly is all there is, and it
        tells each side the other's addresses."""
        if not self.discloses or self.mode is Mode.CENTRAL:
            return StandbyWord.NEVER
        return self.foresight

    @property
    def foresight(self) -> StandbyWord:
        """What `standby` says, whatever the mode: whether anything is made ready before a path has
        failed, and over which networks."""
        return self.policy.standby or self.standby

    @property
    def locks_taken(self) -> tuple[Lock, ...]:
        """What a path by the relay may be locked by."""
        return self.policy.locks or self.locks

    @property
    def features(self) -> tuple[str, ...]:
        """What this side names at the head of the session's paths."""
        named = []
        relayed = self.policy.refusal(PathFacts(PathKind.RELAYED)) is None
        if self.mode is Mode.COMBINED and self.fallback and relayed:
            named.append(RELAY_FALLBACK)
        if self.standby_word is not StandbyWord.NEVER:
            named.append(STANDBY)
        if self.conversation:
            named.append(CONVERSATION)
        return tuple(named)
