"""What came of all checks, by rule."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from peers.conformance.checks import Outcome, Result, order, section_of

__all__ = ["Report", "RuleReport"]


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What came of the checks of one rule."""

    rule: str
    results: tuple[Result, ...]

    @property
    def outcome(self) -> Outcome:
        """Failed where one has; not tried, or not applicable, where none was made."""
        outcomes = {result.outcome for result in self.results}
        for outcome in (Outcome.FAILED, Outcome.PASSED, Outcome.NOT_TRIED):
            if outcome in outcomes:
                return outcome
        return Outcome.NOT_APPLICABLE

    @property
    def section(self) -> str:
        """The section of the page that the rule is in."""
        return section_of(self.rule)

    @property
    def lines(self) -> list[str]:
        """One line for people, and one for each check that was not passed."""
        shown = self.results[0].what
        more = f" (and {len(self.results) - 1} more)" if len(self.results) > 1 else ""
        word = self.outcome.value.upper() if self.outcome is Outcome.FAILED else self.outcome.value
        return [
            f"{self.rule:<7} {self.section:<4} {word:<14} {shown}{more}",
            *(
                f"        failed: {result.what}: {result.detail}"
                for result in self.results
                if result.outcome is Outcome.FAILED
            ),
            *(f"        {word} ×{count}: {why}" for (word, why), count in self._not_made.items()),
        ]

    @property
    def _not_made(self) -> Counter[tuple[str, str]]:
        """Why checks were not made."""
        return Counter(
            (result.outcome.value, result.detail)
            for result in self.results
            if result.outcome in (Outcome.NOT_TRIED, Outcome.NOT_APPLICABLE)
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "rule": self.rule,
            "section": self.section,
            "outcome": self.outcome.value,
            "checks": [
                {
                    "what": result.what,
                    "outcome": result.outcome.value,
                    "detail": result.detail,
                    "seconds": round(result.seconds, 3),
                }
                for result in self.results
            ],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All of them."""

    results: tuple[Result, ...]

    @property
    def rules(self) -> list[RuleReport]:
        """By rule, in the order of the page."""
        grouped: dict[str, list[Result]] = {}
        for result in self.results:
            grouped.setdefault(result.rule, []).append(result)
        return [RuleReport(rule, tuple(grouped[rule])) for rule in sorted(grouped, key=order)]

    @property
    def failed(self) -> list[str]:
        """The rules that are broken."""
        return [rule.rule for rule in self.rules if rule.outcome is Outcome.FAILED]

    @property
    def counts(self) -> dict[str, int]:
        """How many rules ended how, and how many checks there were."""
        outcomes = Counter(rule.outcome.value for rule in self.rules)
        return {
            **{outcome.value.replace(" ", "_"): outcomes[outcome.value] for outcome in Outcome},
            "checks": len(self.results),
        }
