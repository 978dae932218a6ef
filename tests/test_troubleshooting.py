"""docs/troubleshooting.md has every exception that a program may meet, with its exit code, and
every code; docs/index.md leads to every page."""

import inspect
import re
from pathlib import Path

import peers
from peers.cli.exits import exit_of
from protocol.errors import Code, RoamRelayError, error_for

DOCS = Path(__file__).parents[1] / "docs"


def test_every_exception_has_its_line() -> None:
    page = (DOCS / "troubleshooting.md").read_text().partition("## By exception")[2]
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", page, re.MULTILINE))
    raised = {
        name: cls
        for name in peers.__all__
        if inspect.isclass(cls := getattr(peers, name)) and issubclass(cls, RoamRelayError)
    }
    assert set(told) == set(raised) - {"RoamRelayError"}
    for name, cls in raised.items():
        made = cls.__new__(cls)
        assert name == "RoamRelayError" or int(told[name]) == exit_of(made), name


def test_every_code_has_its_line_with_an_exception_that_there_is() -> None:
    page = (DOCS / "troubleshooting.md").read_text().partition("## By code")[2]
    told = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|[^|]+\|[^|]+\|$", page, re.MULTILINE))
    assert {code.value for code in Code} <= set(told)
    assert set(told.values()) <= set(peers.__all__)
    for code in Code:
        raised = error_for(code)
        if type(raised) is not RoamRelayError:
            assert isinstance(raised, getattr(peers, told[code])), code


def test_the_first_page_leads_to_every_other_one() -> None:
    index = (DOCS / "index.md").read_text()
    site = (DOCS.parent / "mkdocs.yml").read_text()
    for page in DOCS.glob("*.md"):
        assert f" {page.name}" in site, f"{page.name} is not in mkdocs.yml"
        if page.name not in (
            "index.md",
            "rules.md",
            "libraries.md",
            "benchmarks.md",
            "releases.md",
        ):
            assert f"({page.name})" in index, f"{page.name} is not in index.md"
