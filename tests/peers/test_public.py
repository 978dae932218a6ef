"""What a program sees of the library: every name is explained, and nothing internal is seen."""

import ast
import enum
import functools
import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import peers
from peers import blocking

OURS = ("peers", "protocol")
MODULES = (peers, blocking)
CLASSES = sorted(
    {
        cls
        for module in MODULES
        for name in module.__all__
        if isinstance(cls := getattr(module, name), type)
    },
    key=lambda cls: (cls.__module__, cls.__qualname__),
)


MADE_FOR_PROGRAMS = {
    *(peers.Session, peers.Listener, peers.Path, peers.Conversation, peers.Message),
    *(blocking.Session, blocking.Listener),
}
"""Classes that a program does not call: it gets their objects."""


def names_of(cls: type) -> list[str]:
    """Return the public names of a class that it, or a class of ours above it, defines."""
    found = {name for base in ours(cls) for name in (*vars(base), *inspect.get_annotations(base))}
    return sorted(name for name in found if not name.startswith("_"))


@functools.cache
def tree_of(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text())


def bodies_of(cls: type) -> Iterator[tuple[bool, list[ast.stmt]]]:
    """Yield the statements of a class, and those of its `__init__`, and whether they are these."""
    file = inspect.getsourcefile(cls)
    assert file is not None
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.ClassDef) and node.name == cls.__qualname__:
            yield False, node.body
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                    yield True, one.body


def targets(node: ast.stmt | None, *, of_self: bool) -> Iterator[str]:
    """Yield the public names that a statement gives to a class, or to `self`."""
    assigned = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    for one in assigned:
        for part in one.elts if isinstance(one, ast.Tuple) else [one]:
            match part:
                case ast.Name(name) if not of_self and not name.startswith("_"):
                    yield name
                case ast.Attribute(ast.Name("self"), name) if of_self and not name.startswith("_"):
                    yield name


def ours(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.partition(".")[0] in OURS]


@functools.cache
def explained(cls: type) -> frozenset[str]:
    """Return the names behind which a text stands."""
    found: set[str] = set()
    for of_self, body in (one for base in ours(cls) for one in bodies_of(base)):
        for node, text in zip(body, [*body[1:], None], strict=True):
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found |= set(targets(node, of_self=of_self))
    return frozenset(found)


@functools.cache
def instance_attributes(cls: type) -> frozenset[str]:
    """Return the public attributes that `__init__` gives to an object."""
    bodies = [body for base in ours(cls) for of_self, body in bodies_of(base) if of_self]
    return frozenset(
        name for body in bodies for node in body for name in targets(node, of_self=True)
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_name_is_there_and_every_class_says_what_it_is(module: types.ModuleType) -> None:
    assert inspect.getdoc(module)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        shown = getattr(module, name)
        if isinstance(shown, type):
            assert vars(shown).get("__doc__"), f"{name} says nothing of itself"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_everything_that_it_has_is_explained(cls: type) -> None:
    if cls is peers.Code:
        return  # Each of them has a row in docs/protocol.md (tests/protocol/test_documentation.py).
    silent = set()
    for name in {*names_of(cls), *instance_attributes(cls)}:
        shown = inspect.getattr_static(cls, name, None)
        if isinstance(shown, types.FunctionType | classmethod | staticmethod | property):
            if not inspect.getdoc(getattr(cls, name)):
                silent.add(name)
        elif not getattr(shown, "__doc__", None) or isinstance(shown, enum.Enum | str | int):
            silent |= {name} - explained(cls)
    assert not silent, f"{cls.__name__}: no word on {sorted(silent)}"


def hints_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield every type that a program meets at a class: of its fields, arguments and results."""
    for name in names_of(cls):
        shown = inspect.getattr_static(cls, name, None)
        function = (
            shown.fget
            if isinstance(shown, property)
            else shown.__func__
            if isinstance(shown, classmethod | staticmethod)
            else shown
            if isinstance(shown, types.FunctionType)
            else None
        )
        if function is not None:
            for hint in typing.get_type_hints(function).values():
                yield name, hint
    if "__init__" in vars(cls) and cls not in MADE_FOR_PROGRAMS:
        for hint in typing.get_type_hints(cls.__init__).values():
            yield "__init__", hint
    fields = getattr(cls, "__struct_fields__", None) or getattr(cls, "__dataclass_fields__", ())
    if fields:
        for name, hint in typing.get_type_hints(cls).items():
            if not name.startswith("_"):
                yield name, hint


def types_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    if isinstance(origin := typing.get_origin(hint), type):
        yield origin
    if origin is not typing.Literal:
        for part in typing.get_args(hint):
            for one in part if isinstance(part, list | tuple) else (part,):
                yield from types_in(one)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_what_it_takes_and_gives_is_exported_too(cls: type) -> None:
    """So a program can name the types of what it has, and none of them is a room's own."""
    exported = {
        getattr(module, name)
        for module in MODULES
        for name in module.__all__
        if isinstance(getattr(module, name), type)
    }
    exported |= {base for cls in exported for base in cls.__mro__}
    hidden = {
        f"{name}: {found.__module__}.{found.__qualname__}"
        for name, hint in hints_of(cls)
        for found in types_in(hint)
        if found.__module__.partition(".")[0] in OURS and found not in exported
    }
    assert not hidden, f"{cls.__name__}: {sorted(hidden)}"


def test_a_session_a_path_and_a_service_have_nothing_that_is_for_their_rooms() -> None:
    """Which have classes of their own for that: what is below them here is theirs alone."""
    assert instance_attributes(peers.Session) == {"id", "metadata", "pinned"}
    assert not instance_attributes(peers.Path)
    assert not instance_attributes(peers.Listener)
    facts = {"kind", "local", "local_host", "lock", "remote", "remote_guid", "round_trip"}
    assert set(names_of(peers.Path)) == facts
    assert set(names_of(peers.Listener)) == {"allow", "close", "port", "service"}
