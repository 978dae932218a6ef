"""What a check is, and how all of them are run: one after the other, each with its rule.

The checks themselves are in the files of their subjects; what they are made with, in the stages.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from peers.conformance.adapter import Said
from peers.conformance.faults import Fault, NotApplicable, NotTried

__all__ = ["Check", "Checks", "Outcome", "Result", "order", "run", "section_of"]

Stage = TypeVar("Stage")

_LONGEST = 60.0
"""Seconds for one check, whatever it waits for."""


class Outcome(Enum):
    """How a check ends."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_TRIED = "not tried"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Check(Generic[Stage]):
    """One thing that a rule of docs/protocol.md demands."""

    of: str
    """Of whom: `peer` or `relay`."""
    rule: str
    what: str
    """In words: what is right."""
    slow: bool
    """Whether it takes more than some seconds by itself."""
    make: Callable[[Stage], Awaitable[None]]

    @property
    def section(self) -> str:
        """The section of the page that it comes from."""
        return section_of(self.rule)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check."""

    rule: str
    section: str
    what: str
    outcome: Outcome
    detail: str
    """Why it failed, was not tried, or does not apply."""
    seconds: float


class Checks(Generic[Stage]):
    """The checks of one kind of party, in the order in which they are made."""

    def __init__(self, of: str) -> None:
        self.of = of
        self.all: list[Check[Stage]] = []

    def __call__(
        self, rule: str, what: str, *, slow: bool = False
    ) -> Callable[[Callable[[Stage], Awaitable[None]]], Callable[[Stage], Awaitable[None]]]:
        """Note a function as a check of a rule; of several rules with several decorators."""

        def noted(
            make: Callable[[Stage], Awaitable[None]],
        ) -> Callable[[Stage], Awaitable[None]]:
            self.all.append(Check(self.of, rule, what, slow, make))
            return make

        return noted

    def chosen(self, rules: Iterable[str] = (), *, slow: bool = False) -> list[Check[Stage]]:
        """Return those of some rules (`R11.17`, or `R11` for a whole section); all where none is
        named. Slow ones only where they are asked for, or named."""
        wanted = set(rules)
        return [
            check
            for check in self.all
            if (slow or not check.slow or check.rule in wanted)
            and (not wanted or wanted & {check.rule, check.rule.partition(".")[0]})
        ]


async def run(
    checks: Iterable[Check[Stage]],
    enter: Callable[[], Awaitable[Stage]],
    tell: Callable[[Result], None],
) -> list[Result]:
    """Make checks, in the order of their rules; `enter` is called before each one and returns what
    it is made with, `tell` hears of each one as it ends. What is a check of several rules is made
    once."""
    results = []
    known: dict[Callable[[Stage], Awaitable[None]], tuple[Outcome, str, float]] = {}
    wanted = sorted(checks, key=lambda check: order(check.rule))
    for check in wanted:
        if check.make not in known:
            began = time.monotonic()
            outcome, detail = await _outcome(check.make, enter)
            known[check.make] = outcome, detail, time.monotonic() - began
        outcome, detail, seconds = known[check.make]
        rule = check.rule
        # A fault may name the rule that it breaks, where that is not what was looked for.
        named = _NAMED.search(detail) if outcome is Outcome.FAILED else None
        if named and named[1] != rule:
            if any(other.make is check.make and other.rule == named[1] for other in wanted):
                continue
            rule = named[1]
        result = Result(rule, section_of(rule), check.what, outcome, detail, seconds)
        results.append(result)
        tell(result)
    return results


_NAMED = re.compile(r"\((R\d+\.\d+)\)")


async def _outcome(
    make: Callable[[Stage], Awaitable[None]], enter: Callable[[], Awaitable[Stage]]
) -> tuple[Outcome, str]:
    try:
        async with asyncio.timeout(_LONGEST):
            await make(await enter())
    except NotTried as why:
        return Outcome.NOT_TRIED, str(why)
    except NotApplicable as why:
        return Outcome.NOT_APPLICABLE, str(why)
    except Fault as fault:
        return Outcome.FAILED, str(fault)
    except Said as said:
        return Outcome.FAILED, f"its application is told {said.word!r}"
    except TimeoutError:
        return Outcome.FAILED, f"not over after {_LONGEST:g} s"
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        # What the other party has said has another shape than the page gives it.
        return Outcome.FAILED, f"cannot be read: {error!r}"
    return Outcome.PASSED, ""


def section_of(rule: str) -> str:
    """Return the section of the page that a rule is in."""
    return f"§{rule[1:].partition('.')[0]}"


def order(rule: str) -> tuple[int, int]:
    """Return what rules are sorted by."""
    section, number = map(int, re.findall(r"\d+", rule))
    return section, number
