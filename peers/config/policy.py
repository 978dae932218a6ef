"""Path policies: which paths a session may take, and which it would rather have, in a few words.

    policy = clause *( "," clause )
    clause = ( "only" / "not" / "prefer" ) term  /  "within" SECONDS
           / "dial" ( "open" / "careful" / "proven" )
           / "standby" ( "auto" / "metered" / "never" )
           / "locks" 1*( "tls" / "noise" )
    term   = "direct" / "relayed" / "ipv4" / "ipv6" / "private" / "public" / "metered"
           / "interface" PATTERN

`only ipv6, not interface wwan*, prefer public, within 5` is one. A pattern is a shell's (`*`, `?`).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from peers.config.kinds import Dial, PathKind, StandbyWord
from protocol.errors import RoamRelayError
from protocol.lock import Lock

__all__ = ["NO_POLICY", "PathFacts", "Policy", "PolicyError", "Rule", "TERMS", "VERBS"]

VERBS = {
    "only": "no path but one of the term that follows; every `only` must hold",
    "not": "no path of the term that follows",
    "prefer": "one of the term that follows before others; an earlier `prefer` counts more",
    "within": "how many seconds opening the session may take, above 0 to 3600, in place of the "
    "configured times",
    "dial": "whom to dial where the peer was not met before, in place of `dial` in the "
    "configuration",
    "standby": "whether a second path stands ready, in place of `standby` in the configuration",
    "locks": "what a path by the relay may be locked by, one word or both, in place of `locks` in "
    "the configuration",
}
"""How a clause begins, and what it says."""
TERMS = {
    "direct": "leads from peer to peer",
    "relayed": "leads through the relay",
    "ipv4": "leads to an IPv4 address of the other side",
    "ipv6": "leads to an IPv6 address of the other side",
    "private": "leads to an address of the other side that is not global",
    "public": "leads to a global address of the other side",
    "metered": "begins at an interface that `metered` names",
    "interface": "begins at an interface whose name fits the pattern that follows (`wwan*`)",
}
"""What a clause of the first three is about."""
_MAX_CLAUSES = 16


class PolicyError(RoamRelayError, ValueError):
    """A policy cannot be read. Names the word and where it stands."""


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What a policy looks at. None is what is not known: it matches no term."""

    kind: PathKind
    host: str | None = None
    """The other end's address of a direct path."""
    interface: str | None = None
    metered: bool | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One clause but `within`, `dial`, `standby` and `locks`."""

    verb: str
    term: str
    pattern: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, self.term, self.pattern)))

    def matches(self, facts: PathFacts) -> bool:
        """Whether the term is true of a path."""
        match self.term:
            case "direct" | "relayed":
                return facts.kind.value == self.term
            case "interface":
                return facts.interface is not None and fnmatchcase(facts.interface, self.pattern)
            case "metered":
                return facts.metered is True
            case _:
                pass
        if facts.host is None:
            return False
        address = ipaddress.ip_address(facts.host)
        if self.term in ("ipv4", "ipv6"):
            return f"ipv{address.version}" == self.term
        return address.is_global == (self.term == "public")

    def concerns(self, facts: PathFacts) -> bool:
        """Whether the term means anything for a path: through the relay there is no address of the
        other side to look at."""
        return self.term in ("direct", "relayed") or facts.kind is PathKind.DIRECT


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read. Clauses of `only` must all hold."""

    rules: tuple[Rule, ...] = ()
    within: float | None = None
    """Seconds that opening a session may take, in place of the timeouts."""
    dial: Dial | None = None
    """Which endpoints are dialed where the peer was not met; None: what is configured."""
    standby: StandbyWord | None = None
    """Whether a second path stands ready; None: what is configured."""
    locks: tuple[Lock, ...] | None = None
    """What a path by the relay may be locked by; None: what is configured."""
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Read a policy; the empty text is none.

        Raises:
            PolicyError: it cannot be read; points at the word.
        """
        if not text.strip():
            return NO_POLICY  # One for all sessions that have none.
        rules: list[Rule] = []
        within = dial = standby = locks = None
        position = 0
        clauses = text.split(",")
        if len(clauses) > _MAX_CLAUSES:
            raise PolicyError(f"policy: more than {_MAX_CLAUSES} clauses")
        for clause in clauses:
            words = _words(clause, position)
            verb, at = words[0] if words else ("", position)
            position += len(clause) + 1
            if verb not in VERBS:
                raise _unknown(text, verb, at, tuple(VERBS))
            rest = words[1:]
            if verb == "within":
                within = _seconds(text, rest, at)
                continue
            if verb == "dial":
                dial = Dial(_one_of(text, verb, rest, at, tuple(Dial)))
                continue
            if verb == "standby":
                standby = StandbyWord(_one_of(text, verb, rest, at, tuple(StandbyWord)))
                continue
            if verb == "locks":
                locks = _locks(text, rest, at)
                continue
            term, at = rest[0] if rest else ("", at + len(verb))
            if term not in TERMS:
                raise _unknown(text, term, at, tuple(TERMS))
            needed = 2 if term == "interface" else 1
            if len(rest) < needed:
                raise _unknown(text, "", at + len(term), ("a pattern such as eth0 or wwan*",))
            if len(rest) > needed:
                raise _unknown(text, *rest[needed], ("a comma",))
            rules.append(Rule(verb, term, rest[1][0] if needed == 2 else ""))
        return cls(tuple(rules), within, dial, standby, locks, text.strip())

    @property
    def needs_interfaces(self) -> bool:
        """Whether the routes' own choice of a source address is not enough to judge."""
        return any(rule.term in ("interface", "metered") for rule in self.rules)

    def refusal(self, facts: PathFacts) -> Rule | None:
        """Return the rule that forbids a path; None where it may be taken."""
        for rule in self.rules:
            if rule.concerns(facts) and (
                (rule.verb == "only" and not rule.matches(facts))
                or (rule.verb == "not" and rule.matches(facts))
            ):
                return rule
        return None

    def rank(self, facts: PathFacts) -> tuple[int, ...]:
        """Return a sort key: what is preferred comes first, the earlier rule counts more."""
        return tuple(
            0 if rule.matches(facts) else 1 for rule in self.rules if rule.verb == "prefer"
        )


NO_POLICY = Policy()


def _words(clause: str, start: int) -> list[tuple[str, int]]:
    words = []
    at = 0
    for word in clause.split():
        at = clause.index(word, at)
        words.append((word, start + at))
        at += len(word)
    return words


def _seconds(text: str, rest: Sequence[tuple[str, int]], at: int) -> float:
    word, at = rest[0] if rest else ("", at + len("within"))
    try:
        seconds = float(word)
    except ValueError:
        raise _unknown(text, word, at, ("seconds such as 2 or 0.5",)) from None
    if not 0 < seconds <= 3600:
        raise _unknown(text, word, at, ("seconds from above 0 to 3600",))
    if len(rest) > 1:
        raise _unknown(text, *rest[1], ("a comma",))
    return seconds


def _one_of(
    text: str, verb: str, rest: Sequence[tuple[str, int]], at: int, words: Sequence[str]
) -> str:
    word, at = rest[0] if rest else ("", at + len(verb))
    if word not in words:
        raise _unknown(text, word, at, words)
    if len(rest) > 1:
        raise _unknown(text, *rest[1], ("a comma",))
    return word


def _locks(text: str, rest: Sequence[tuple[str, int]], at: int) -> tuple[Lock, ...]:
    for word, here in rest or (("", at + len("locks")),):
        if word not in tuple(Lock):
            raise _unknown(text, word, here, tuple(Lock))
    named = {word for word, _ in rest}
    return tuple(lock for lock in Lock if lock in named)


def _unknown(text: str, word: str, at: int, expected: Sequence[str]) -> PolicyError:
    what = f"{word!r}" if word else "nothing"
    return PolicyError(
        f"policy: {what} at position {at + 1} of {text!r}, expected {' or '.join(expected)}"
    )
