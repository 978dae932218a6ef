"""How checks are chosen and made, and what is told of them."""

from peers.conformance.adapter import Said
from peers.conformance.checks import Checks, Outcome, Result, run
from peers.conformance.faults import Fault, NotApplicable, NotTried
from peers.conformance.report import Report


class Stage:
    """What checks are made with."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def enter(self) -> "Stage":
        self.made.append("entered")
        return self


def some() -> Checks[Stage]:
    check: Checks[Stage] = Checks("peer")

    @check("R11.10", "passes")
    async def passes(stage: Stage) -> None:
        stage.made.append("passes")

    @check("R2.1", "fails")
    async def fails(stage: Stage) -> None:
        raise Fault("as it says")

    @check("R11.2", "is slow", slow=True)
    async def slow(stage: Stage) -> None:
        stage.made.append("slow")

    @check("R3.1", "cannot be tried")
    async def cannot(stage: Stage) -> None:
        raise NotTried("no such command")

    @check("R4.1", "is of another kind")
    async def another_kind(stage: Stage) -> None:
        raise NotApplicable("it takes no TLS")

    return check


async def made(checks: Checks[Stage], *rules: str, slow: bool = False) -> list[Result]:
    told: list[Result] = []
    results = await run(checks.chosen(rules, slow=slow), Stage().enter, told.append)
    assert told == results
    return results


async def test_checks_are_made_in_the_order_of_their_rules() -> None:
    results = await made(some())
    assert [(one.rule, one.outcome.value) for one in results] == [
        ("R2.1", "failed"),
        ("R3.1", "not tried"),
        ("R4.1", "not applicable"),
        ("R11.10", "passed"),
    ]
    assert results[0].section == "§2"
    assert results[0].detail == "as it says"


async def test_rules_and_sections_are_chosen_and_slow_ones_where_they_are_named() -> None:
    assert [one.rule for one in await made(some(), "R11")] == ["R11.10"]
    assert [one.rule for one in await made(some(), "R11", slow=True)] == ["R11.2", "R11.10"]
    assert [one.rule for one in await made(some(), "R11.2", "R2")] == ["R2.1", "R11.2"]


async def test_what_is_a_check_of_several_rules_is_made_once() -> None:
    check: Checks[Stage] = Checks("peer")

    @check("R5.1", "one")
    @check("R5.2", "other")
    async def both(stage: Stage) -> None:
        stage.made.append("both")

    stage = Stage()
    results = await run(check.all, stage.enter, lambda result: None)
    assert [one.rule for one in results] == ["R5.1", "R5.2"]
    assert stage.made == ["entered", "both"]


async def test_a_fault_is_told_under_the_rule_that_it_names() -> None:
    check: Checks[Stage] = Checks("peer")

    @check("R5.1", "one")
    @check("R5.2", "other")
    async def one_of_both(stage: Stage) -> None:
        raise Fault("the second (R5.2)")

    @check("R6.1", "a third")
    async def another(stage: Stage) -> None:
        raise Fault("something else (R11.29)")

    results = await run(check.all, Stage().enter, lambda result: None)
    assert Report(tuple(results)).failed == ["R5.2", "R11.29"]


async def test_what_cannot_be_read_and_what_the_application_is_told_are_faults() -> None:
    check: Checks[Stage] = Checks("peer")

    @check("R5.1", "a shape")
    async def shape(stage: Stage) -> None:
        {}["nothing"]

    @check("R5.2", "a word")
    async def word(stage: Stage) -> None:
        raise Said("refused")

    results = await run(check.all, Stage().enter, lambda result: None)
    assert [one.outcome for one in results] == [Outcome.FAILED, Outcome.FAILED]
    assert "nothing" in results[0].detail
    assert "'refused'" in results[1].detail


async def test_the_report_has_a_line_for_each_rule_and_one_for_each_fault() -> None:
    report = Report(tuple(await made(some())))
    lines = [line for rule in report.rules for line in rule.lines]
    assert lines == [
        "R2.1    §2   FAILED         fails",
        "        failed: fails: as it says",
        "R3.1    §3   not tried      cannot be tried",
        "        not tried ×1: no such command",
        "R4.1    §4   not applicable is of another kind",
        "        not applicable ×1: it takes no TLS",
        "R11.10  §11  passed         passes",
    ]
    others = {"not_tried": 1, "not_applicable": 1, "checks": 4}
    assert report.counts == {"passed": 1, "failed": 1, **others}
    assert report.rules[0].fields["checks"][0]["detail"] == "as it says"
