"""The numbers of the rules: on the page, in the vectors, in the kit, and what holds each."""

import re
from collections import Counter

import pytest

from peers.conformance import every_rule
from protocol.tables import FROM_PEER, FROM_RELAY, ON_PATH
from tests import rules
from tests.protocol.test_documentation import TEXT, section

FOUND = rules.rules()


def test_each_number_is_given_once_and_in_its_section() -> None:
    numbers = re.findall(r"\*\*(R\d+\.\d+)\*\*", TEXT)
    assert not [number for number, count in Counter(numbers).items() if count > 1]
    for part in re.split(r"^## ", TEXT, flags=re.M)[1:]:
        title = part.partition(".")[0]
        for number in re.findall(r"\*\*R(\d+)\.\d+\*\*", part):
            assert number == title


def test_the_numbers_of_the_kit_are_those_of_the_page() -> None:
    missing = set(every_rule()) - set(FOUND)
    assert not missing
    for number, checks in every_rule().items():
        assert {check.section for check in checks} == {f"§{number[1:].partition('.')[0]}"}


def test_each_rule_is_held_or_said_not_to_be() -> None:
    for rule in FOUND.values():
        assert rule.is_held != bool(rule.why), (rule.number, rule.text)


@pytest.mark.parametrize("test", sorted({test for rule in FOUND.values() for test in rule.tests}))
def test_each_test_that_holds_a_rule_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    assert name in rules.names_in(rules.ROOT / "tests" / file)


def test_the_page_of_rules_is_the_one_that_the_code_makes() -> None:
    assert rules.PAGE.read_text() == rules.table(), "make rules ARGS=--write"


@pytest.mark.parametrize("name", {**FROM_PEER, **FROM_RELAY, **ON_PATH})
def test_every_message_has_a_rule(name: str) -> None:
    assert re.search(r"\*\*R\d+\.\d+\*\*", section(name)), name
