"""The shape of the code, checked: what imports what, how long a file is, what each must have.

The rules are in CONTRIBUTING.md, the picture of the rooms in docs/architecture.md.
"""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from tests import floors

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "relay", "peers")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def every(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a check for each of these. Thousands of tests that take a millisecond cost
    several each to be dealt out, in every worker."""

    def decorate(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for path in paths:
                try:
                    check(path)
                except AssertionError as error:
                    wrong.append(f"{path.relative_to(ROOT)}: {error}")
            assert not wrong, "\n".join(wrong)

        test.__name__ = check.__name__
        test.__doc__ = check.__doc__
        return test

    return decorate


EVERY_MODULE = every(MODULES)

MAX_LINES = 500
"""Files are cut by subject, never by length; what is longer than this has two subjects."""

MAX_PARAMETERS = 5
"""Of a constructor; values that travel together are one frozen class."""

ROOMS = {path.parent for path in MODULES if path.parent.parent.parent == ROOT}
"""The folders inside a package: each has a door, its `__init__.py`."""
EVERY_ROOM = every(sorted(ROOMS))

PURE = {
    "__future__",
    "base64",
    "collections",
    "collections.abc",
    "cryptography",
    "dataclasses",
    "datetime",
    "enum",
    "errno",
    "functools",
    "ipaddress",
    "msgpack",
    "msgspec",
    "nacl",
    "protocol",
    "re",
    "typing",
}
"""All that protocol may import: a list of what is allowed notices what nobody thought to forbid."""

CLOCKS = re.compile(r"\b(now|utcnow|today|monotonic|perf_counter|urandom)\(")


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in nodes_of(path):
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


@every([path for path in MODULES if path.relative_to(ROOT).parts[0] == "protocol"])
def test_protocol_has_no_clock_no_loop_and_no_sockets(path: Path) -> None:
    for name in imports_of(path):
        assert name in PURE or name.split(".")[0] in PURE, f"{path.name} imports {name}"
    assert not CLOCKS.search(path.read_text())
    tree = ast.parse(path.read_text())
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree))


def test_the_page_shows_the_rooms_as_they_are() -> None:
    assert floors.on_page() == floors.draw(), "make floors ARGS=--write"


def names_of(door: Path) -> set[str]:
    """What goes through a door."""
    (names,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((door / "__init__.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return set(names)


@EVERY_MODULE
def test_a_room_is_entered_by_its_door(path: Path) -> None:
    for name in imports_of(path):
        parts = name.split(".")
        room = ROOT.joinpath(*parts[:2])
        if len(parts) > 2 and room in ROOMS:
            assert path.parent == room, f"{path.name} imports {name}, not the door of its room"


@EVERY_MODULE
def test_nobody_takes_from_a_room_what_its_door_does_not_name(path: Path) -> None:
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom):
            room = ROOT.joinpath(*(node.module or "").split("."))
            if room in ROOMS and path.parent != room:
                taken = {alias.name for alias in node.names}
                assert taken <= names_of(room), f"line {node.lineno}"


@EVERY_ROOM
def test_a_door_names_what_goes_through_it(room: Path) -> None:
    door = ast.parse((room / "__init__.py").read_text())
    doc = ast.get_docstring(door)
    assert doc, "one sentence that says what the room is for"
    assert len(doc.splitlines()) == 1, "one room, one sentence"
    brought = {
        alias.asname or alias.name
        for node in door.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert brought == names_of(room)


@EVERY_ROOM
def test_a_file_does_not_repeat_the_name_of_its_room(room: Path) -> None:
    for path in room.glob("*.py"):
        assert not path.stem.startswith(f"{room.name}_"), path.name


@EVERY_MODULE
def test_a_constructor_takes_few_things(path: Path) -> None:
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]
            assert len(taken) <= MAX_PARAMETERS, f"line {node.lineno}"


@EVERY_MODULE
def test_nothing_is_caught_and_dropped_unnamed(path: Path) -> None:
    for node in nodes_of(path):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "BaseException"
            dropped = all(isinstance(step, ast.Pass | ast.Continue) for step in node.body)
            broad = caught in ("Exception", "BaseException")
            assert not (broad and dropped), f"line {node.lineno}"


@EVERY_MODULE
def test_no_assert_says_what_a_type_should(path: Path) -> None:
    """`assert x is not None` says that a class is two; what must hold raises what is named."""
    asserts = [node.lineno for node in nodes_of(path) if isinstance(node, ast.Assert)]
    assert not asserts, f"lines {asserts}"


PURE_WORDS = re.compile(r"^(PURE|Pure|No I/O and no clock|Without I/O)\b", re.MULTILINE)
DECIDERS = {
    module
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    if contract["name"].partition(": ")[2].startswith("what decides")
    for module in contract["source_modules"]
}
"""What import-linter keeps pure."""


@EVERY_MODULE
def test_what_says_that_it_is_pure_is_held_to_it(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if PURE_WORDS.search(doc) and parts[0] != "protocol":
        names = {".".join(parts[: count + 1]) for count in range(len(parts))}
        assert names & DECIDERS, "it is in no contract of pyproject.toml"


FILE_NAME = re.compile(r"`((?:peers|relay|protocol|tests|benchmarks|docs|examples)/[\w./-]*\w)`")


@every(sorted((ROOT / "docs").glob("*.md")))
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    for name in FILE_NAME.findall(page.read_text()):
        assert (ROOT / name).exists(), name


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


DIALS = {
    *("dial", "dial_any", "dial_in_turn", "dial_relay", "dial_through", "connecting"),
    *("open_tcp", "open_upgraded", "open_websocket"),
    *("create_connection", "open_connection", "sock_connect", "connect_ex"),
}
"""What opens a connection. Name servers are asked in `peers.dns`, which has a client of its own."""


@EVERY_MODULE
def test_everything_is_dialed_through_one_door(path: Path) -> None:
    """Who dials past `peers.dialing` is asked for no reason, and has no budget. The conformance kit
    is no peer: it plays others to what is under test, and must be able to break every rule."""
    rooms = ("transport", "dialing", "dns", "conformance")
    if path.parent in {ROOT / "peers" / room for room in rooms}:
        return
    tree = nodes_of(path)
    called = {
        one.func.attr if isinstance(one.func, ast.Attribute) else getattr(one.func, "id", "")
        for one in tree
        if isinstance(one, ast.Call)
    }
    if path.is_relative_to(ROOT / "peers"):
        assert not called & DIALS
