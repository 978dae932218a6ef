"""The shape of the code, checked: what imports what, how long a file is, what each must have."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "relay", "peers")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]
EVERY_MODULE = pytest.mark.parametrize("path", MODULES, ids=IDS)

MAX_LINES = 400

PURE = {
    "__future__",
    "base64",
    "collections",
    "collections.abc",
    "cryptography",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "ipaddress",
    "msgpack",
    "msgspec",
    "protocol",
    "re",
    "typing",
}
"""All that protocol may import: a list of what is allowed notices what nobody thought to forbid."""

CLOCKS = re.compile(r"\b(now|utcnow|today|monotonic|perf_counter|urandom)\(")


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            names.add(node.module or "")
    return names


def test_there_is_something_to_check() -> None:
    assert {path.parent.name for path in MODULES} >= set(PACKAGES)


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent.name == "protocol"], ids=lambda path: path.stem
)
def test_protocol_has_no_clock_no_loop_and_no_sockets(path: Path) -> None:
    for name in imports_of(path):
        assert name in PURE or name.split(".")[0] in PURE, f"{path.name} imports {name}"
    assert not CLOCKS.search(path.read_text())
    tree = ast.parse(path.read_text())
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree))


@EVERY_MODULE
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@EVERY_MODULE
def test_a_module_says_what_it_is(path: Path) -> None:
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source)), "no docstring"


@EVERY_MODULE
def test_what_mypy_ignores_is_named(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not re.search(r"#\s*type:\s*ignore(?!\[)", line), f"line {number}"
