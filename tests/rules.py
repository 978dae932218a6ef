"""`make rules`: which vectors, checks of the kit and tests hold each rule of docs/protocol.md.

docs/rules.md is made by this, with `--write`; without, it is printed, and the exit code is 1 where
the page is another one. Vectors name their rules themselves, and so do the checks of the kit; which
test holds what neither can show, the time for example, is in rules.toml beside this file.
"""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from peers.conformance import every_rule
from peers.conformance.vectors import load

__all__ = ["Rule", "rules", "table"]

ROOT = Path(__file__).parents[1]
PROTOCOL = ROOT / "docs" / "protocol.md"
PAGE = ROOT / "docs" / "rules.md"
TESTS = Path(__file__).with_name("rules.toml")

GROUPS = {
    "identities": ("R2.1",),
    "endpoint_entries": ("R2.4", "R2.6", "R6.4", "R6.5"),
    "location_record": ("R6.1", "R6.3"),
    "signatures": ("R2.4", "R2.5", "R9.2", "R7.29"),
    "succession": ("R7.50", "R7.51"),
    "prekeys": ("R7.66",),
    "letters": ("R7.67", "R7.68"),
    "first_flights": ("R10.53", "R10.54", "R10.55"),
    "locks": ("R18.6", "R18.8", "R18.10", "R18.12", "R18.13", "R18.14", "R18.16", "R18.17"),
    "offers": ("R2.4", "R7.72", "R7.73"),
    "observations": ("R5.35", "R5.36"),
    "sealed": ("R7.30", "R7.31"),
    "invitation": ("R7.9", "R7.10"),
    "messages": (
        *("R4.2", "R4.3", "R7.4", "R7.6", "R7.7", "R7.8", "R7.12", "R7.13", "R7.15", "R7.16"),
        *("R7.18", "R7.20", "R7.21", "R7.24", "R7.29", "R7.30", "R7.32", "R7.33", "R7.34"),
        *("R7.40", "R7.42", "R7.54", "R7.56", "R7.57", "R7.58", "R7.59", "R7.61", "R7.62"),
        *("R7.64", "R7.65"),
        *("R7.35", "R10.16", "R10.17", "R10.18"),
    ),
    "session_frames": ("R11.4", "R11.5"),
    "refused_frames": ("R11.14",),
    "conversation_frames": ("R17.5", "R17.8"),
    "refusals": ("R4.2", "R4.3", "R4.10", "R4.11"),
    "plane_request": ("R9.2", "R9.12"),
    "path_numbers": ("R10.28", "R10.30"),
    "windows": ("R11.31", "R11.32", "R11.34"),
    "control_transcript": (*("R3.4", "R5.1", "R5.2", "R5.4", "R5.5", "R6.12", "R7.14", "R7.36"),),
    "session_transcripts": (
        *("R10.13", "R11.2", "R11.18", "R11.24", "R11.48", "R11.50", "R11.51", "R11.56", "R11.57"),
        *("R11.58", "R11.61"),
    ),
}
"""What the vectors of a group show together."""

_HEAD = """# The rules of the protocol, and what holds them

Made by `make rules ARGS=--write`: the rules of [protocol.md](protocol.md) by their numbers, the
keys of the [test vectors](protocol-vectors.json) that show them, the checks of the
[conformance kit](conformance.md) (of a peer, of a relay), and tests of this project where there is
neither, or more to say. A rule that nothing holds is listed at the end, with the reason.
"""


class Rule:
    """A rule, as it stands on the page."""

    def __init__(self, number: str, text: str) -> None:
        self.number = number
        self.text = text
        self.vectors: list[str] = []
        self.checks: list[str] = []
        self.tests: list[str] = []
        self.why = ""
        """Why nothing holds it."""

    @property
    def is_held(self) -> bool:
        """Whether anything does."""
        return bool(self.vectors or self.checks or self.tests)


def rules() -> dict[str, Rule]:
    """Return all rules of the page, in its order, with what holds them."""
    found = {number: Rule(number, text) for number, text in _on_page()}
    for key, vectors in load().items():
        named = {one["rule"] for one in vectors if "rule" in one} if _are_many(vectors) else set()
        if isinstance(vectors, dict) and "rule" in vectors:
            named = {vectors["rule"]}
        for number in sorted({*named, *GROUPS.get(key, ())}):
            found[number].vectors.append(key)
    for number, checks in every_rule().items():
        for of in ("peer", "relay"):
            if count := sum(check.of == of for check in checks):
                found[number].checks.append(of if count == 1 else f"{of} ×{count}")
    told = tomllib.loads(TESTS.read_text())
    for number, tests in told["tests"].items():
        found[number].tests = [tests] if isinstance(tests, str) else tests
    for number, why in told["unchecked"].items():
        found[number].why = why
    return found


def _are_many(vectors: Any) -> bool:
    return isinstance(vectors, list) and all(isinstance(one, dict) for one in vectors)


def _on_page() -> list[tuple[str, str]]:
    """Return the numbers, and the beginning of what each says."""
    text = PROTOCOL.read_text()
    found = []
    for match in re.finditer(r"\*\*(R\d+\.\d+)\*\* ", text):
        rest = text[match.end() :]
        end = re.search(r"\*\*R\d+\.\d+\*\*|\n\n|\n- |\n\d\. |\n```|\n\|| \|\n", rest)
        said = " ".join(rest[: end.start() if end else len(rest)].split())
        sentence = re.match(r".*?[.:;](?= |$)", said)
        found.append((match[1], sentence[0] if sentence and len(said) > 160 else said))
    return found


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the functions of a test file."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def table() -> str:
    """Return the page."""
    found = rules()
    lines = [_HEAD, "| rule | says | vectors | kit | tests |", "| --- | --- | --- | --- | --- |"]
    for rule in found.values():
        if rule.is_held:
            tests = [
                f"`{test.removeprefix('tests/').replace('::test_', ': ')}`" for test in rule.tests
            ]
            cells = (
                rule.number,
                rule.text.replace("|", "\\|"),
                ", ".join(f"`{key}`" for key in rule.vectors),
                ", ".join(rule.checks),
                ", ".join(tests),
            )
            lines.append("| " + " | ".join(cells) + " |")
    unheld = [rule for rule in found.values() if not rule.is_held]
    lines += ["", f"## Without a check ({len(unheld)} of {len(found)})", ""]
    lines += ["| rule | says | why |", "| --- | --- | --- |"]
    lines += [f"| {rule.number} | {rule.text} | {rule.why} |" for rule in unheld]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the page, or write it."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(table())
        return 0
    sys.stdout.write(table())
    return 0 if PAGE.exists() and PAGE.read_text() == table() else 1


if __name__ == "__main__":
    sys.exit(main())
