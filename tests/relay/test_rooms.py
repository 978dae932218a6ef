"""The rooms of the relay: each says what it is, and is entered by its door."""

import ast
from pathlib import Path

import pytest

RELAY = Path(__file__).parents[2] / "relay"
ROOMS = {path.parent.name: path for path in RELAY.glob("*/__init__.py")}
MODULES = sorted(RELAY.rglob("*.py"))
LARGEST = 5
"""Parameters of a constructor."""


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_names_what_is_behind_it(room: str) -> None:
    tree = ast.parse(ROOMS[room].read_text())
    doc = ast.get_docstring(tree)
    assert doc is not None
    assert len(doc.splitlines()) == 1, "one room, one sentence"
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"  # type: ignore[attr-defined]
    )
    assert set(names) == imported


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(RELAY)))
def test_others_come_by_the_door(path: Path) -> None:
    own = path.parent.name if path.parent != RELAY else None
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("relay."):
            _, room, *rest = (node.module or "").split(".")
            assert not rest or room == own, f"{path.name} climbs into {node.module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(RELAY)))
def test_a_constructor_takes_few_things(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            given = [*node.args.args[1:], *node.args.kwonlyargs]
            assert len(given) <= LARGEST, f"line {node.lineno}"
