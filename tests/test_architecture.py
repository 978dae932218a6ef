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

MAX_LINES = 500
"""Files are cut by subject, never by length; what is longer than this has two subjects."""

ROOMS = {path.parent for path in MODULES if path.parent.parent.parent == ROOT}
"""The folders inside a package: each has a door, its `__init__.py`."""

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
    "path",
    [path for path in MODULES if path.relative_to(ROOT).parts[0] == "protocol"],
    ids=lambda path: path.stem,
)
def test_protocol_has_no_clock_no_loop_and_no_sockets(path: Path) -> None:
    for name in imports_of(path):
        assert name in PURE or name.split(".")[0] in PURE, f"{path.name} imports {name}"
    assert not CLOCKS.search(path.read_text())
    tree = ast.parse(path.read_text())
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree))


@EVERY_MODULE
def test_a_room_is_entered_by_its_door(path: Path) -> None:
    for name in imports_of(path):
        parts = name.split(".")
        room = ROOT.joinpath(*parts[:2])
        if len(parts) > 2 and room in ROOMS:
            assert path.parent == room, f"{path.name} imports {name}, not the door of its room"


@pytest.mark.parametrize("room", sorted(ROOMS), ids=lambda room: str(room.relative_to(ROOT)))
def test_a_door_names_what_goes_through_it(room: Path) -> None:
    door = ast.parse((room / "__init__.py").read_text())
    assert ast.get_docstring(door), "one sentence that says what the room is for"
    brought = {
        alias.asname or alias.name
        for node in door.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    told = [
        ast.literal_eval(node.value)
        for node in door.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert brought == {name for names in told for name in names}


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
