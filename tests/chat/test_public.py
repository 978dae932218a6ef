"""The messenger uses the public names of `peers`, and nothing else of this project."""

import ast
from pathlib import Path

import peers

CHAT = Path(__file__).parents[2] / "examples" / "chat"
OURS = ("peers", "protocol", "relay")


def test_the_messenger_is_made_of_public_names_alone() -> None:
    files = sorted(CHAT.glob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names):
                    assert not [name for name in names if name.name.split(".")[0] in OURS], file
                case ast.ImportFrom(module=str(module), names=names):
                    if module.split(".")[0] in OURS:
                        assert module == "peers", f"{file.name} imports {module}"
                        assert {name.name for name in names} <= set(peers.__all__), file.name
                case ast.Attribute(value=value, attr=name) if name.startswith("_"):
                    is_own = isinstance(value, ast.Name) and value.id == "self"
                    assert is_own or name.startswith("__"), f"{file.name} uses .{name}"
                case _:
                    pass
