"""docs/security.md: each line of its table has tests, and they are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "security.md"


def lines() -> list[list[str]]:
    """Return the cells of each line that names an attack."""
    text = PAGE.read_text()
    table = text[text.index("## In one table") : text.index("## In detail")]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]
    return [line for line in cells[1:] if not line[0].startswith("**")]


def test_each_attack_has_a_test_or_says_why_not() -> None:
    missing = []
    assert len(lines()) > 50
    for attack, stopped, tests in lines():
        assert stopped, attack
        if tests.startswith("none: "):
            continue
        named = re.findall(r"`(tests/[\w/]+\.py)`: ((?:`test_\w+`(?:, )?)+)", tests)
        assert named, attack
        for file, functions in named:
            source = (ROOT / file).read_text()
            missing += [
                f"{attack}: {file} {name}"
                for name in re.findall(r"`(test_\w+)`", functions)
                if f"def {name}(" not in source
            ]
    assert not missing


def test_no_table_of_the_page_is_torn() -> None:
    for attack, *rest in lines():
        assert len(rest) == 2, attack
