"""`make floors`: the rooms of each package, drawn from what imports what (grimp, import-linter's).

A room is a folder of a package, or a file beside the folders. It stands one floor above the highest
room that it imports. The picture is part of docs/architecture.md, where `--write` puts it; without,
it is printed, and the exit code is 1 where the page shows another one.
"""

import ast
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from textwrap import wrap

import grimp

__all__ = ["draw", "on_page"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("peers", "relay", "protocol")
_BEGIN, _END = "<!-- make floors ARGS=--write -->\n```text\n", "```\n<!-- end of the floors -->\n"
_WIDTH, _MARGIN = 108, 20


def draw() -> str:
    """Return the picture.

    Raises:
        SystemExit: rooms lead to one another, so that none is above the others.
    """
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    arrows: dict[str, Counter[str]] = {_room_of(module): Counter() for module in graph.modules}
    for module in graph.modules:
        here = _room_of(module)
        arrows[here].update(
            {_room_of(one) for one in graph.find_modules_directly_imported_by(module)} - {here}
        )
    floors: dict[str, int] = {}
    try:
        for room in TopologicalSorter(arrows).static_order():
            below = [floors[one] for one in arrows[room] if _package_of(one) == _package_of(room)]
            floors[room] = max(below, default=0) + 1
    except CycleError as error:
        raise SystemExit(f"none is above the others: {' -> '.join(error.args[1])}") from None
    return "\n".join(_package(package, floors, arrows) for package in PACKAGES)


def on_page() -> str:
    """Return the picture that the page shows."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


def _package(package: str, floors: dict[str, int], arrows: dict[str, Counter[str]]) -> str:
    # A package whose own door names nothing has none.
    rooms = [
        room
        for room in floors
        if _package_of(room) == package and (room != package or arrows[room])
    ]
    rooms.sort(key=lambda room: (-floors[room], room))
    many = sum(_package_of(one) == package for room in rooms for one in arrows[room])
    lines = [f"{package}: {len(rooms)} rooms, {floors[rooms[0]]} floors, {many} arrows, all down"]
    above = 0
    for room in rooms:
        lines += ["", *_room(room, floors[room] if floors[room] != above else None, arrows[room])]
        above = floors[room]
    return "\n".join(lines) + "\n"


def _room(room: str, floor: int | None, arrows: Counter[str]) -> list[str]:
    path = ROOT.joinpath(*room.split("."))
    is_folder = path.is_dir()
    source = path / "__init__.py" if is_folder else path.with_suffix(".py")
    tree = ast.parse(source.read_text())
    title = f"{path.name}/" if is_folder and "." in room else source.name
    facts = [_sentence(tree)]
    if title.endswith("/"):
        facts.append(
            "files: " + " ".join(sorted({one.stem for one in path.glob("*.py")} - {"__init__"}))
        )
        facts.append("door: " + " ".join(sorted(_door(tree))))
    inside = {one: arrows[one] for one in sorted(arrows) if _package_of(one) == _package_of(room)}
    leads = [f"{one.partition('.')[2] or '__init__'} {many}" for one, many in inside.items()]
    leads += ["protocol"] if len(inside) < len(arrows) else []
    facts += [f"leads to: {', '.join(leads)}"] if leads else []
    lines = [
        line
        for fact in facts
        for line in wrap(fact, _WIDTH - _MARGIN, subsequent_indent="  ", break_on_hyphens=False)
    ]
    first = f"{floor or '':>2}  {title}".ljust(_MARGIN)
    return [(" " * _MARGIN if at else first) + line for at, line in enumerate(lines)]


def _sentence(tree: ast.Module) -> str:
    text = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
    return text.partition(". ")[0].rstrip(".") + "."


def _door(tree: ast.Module) -> list[str]:
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return list(names)


def _package_of(module: str) -> str:
    return module.partition(".")[0]


def _room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def main(arguments: list[str]) -> int:
    """Print the picture, or write it into the page."""
    picture = draw()
    if arguments == ["--write"]:
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        PAGE.write_text(before + _BEGIN + picture + _END + rest.partition(_END)[2])
        return 0
    print(picture, end="")
    if picture != on_page():
        print(f"\n{PAGE.name} shows another picture: make floors ARGS=--write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
