"""`make reference`: docs/reference.md, made from the code's own comments.

Every key of relay.toml and of peer.toml with its type, unit, default and what the docstring under
the field says; the words of policies; metrics; log events; exit codes; error codes. A test compares
the page with what this makes, so that nothing is renamed in the code alone.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as kinds

from peers.cli.exits import Exit as PeerExit
from peers.config import TERMS, VERBS, DdnsConfig, Dial, PeerConfig
from peers.control import refusal
from protocol.errors import Code
from protocol.session import SessionSettings
from relay.cli import Exit as RelayExit
from relay.config import RELOADED, ClusterConfig, DnsConfig, MailboxConfig, RelayConfig
from relay.metrics import METRICS

__all__ = ["draw", "on_page", "unit_of"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
_LEVELS = ("debug", "info", "warning", "error", "exception")

_SECONDS = ("timeout", "interval", "lifetime", "deadline", "grace", "lease", "heartbeat", "stale")
_COUNTS = ("max_", "pending_", "replicas", "sessions_per_")


def docs_of(cls: type) -> dict[str, str]:
    """Return what stands under each name of a class."""
    (node,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for one, below in zip(node.body, [*node.body[1:], None], strict=True):
        target = (
            one.target
            if isinstance(one, ast.AnnAssign)
            else one.targets[0]
            if isinstance(one, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name):
            said = (
                below.value.value
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                else ""
            )
            found[target.id] = " ".join(str(said).split())
    return found


def unit_of(name: str, kind: kinds.Type, annotation: str, said: str) -> str:
    """Return the unit of a number, as its type, its name or its comment says it.

    Raises:
        SystemExit: none of them does.
    """
    if not isinstance(kind, kinds.IntType | kinds.FloatType):
        return ""
    if annotation == "_Share":
        return "part of 1"
    if "per_second" in name:
        return "a second"
    if "bytes" in name or said.startswith("Bytes") or "held" in name:
        return "bytes"
    if annotation == "_Seconds" or name.endswith(_SECONDS) or "econds" in said.split(".")[0]:
        return "s"
    if name.endswith("port"):
        return "port"
    if isinstance(kind, kinds.IntType) and (name.startswith(_COUNTS) or name.endswith("_burst")):
        return "count"
    raise SystemExit(f"{name}: which unit? Say it in the comment, the name or the type")


def keys(cls: type[msgspec.Struct], *, reloaded: bool = False) -> Iterator[str]:
    """Yield the table of a configuration's keys."""
    told = ["key", "type", "unit", "default", *(["reload"] if reloaded else []), "meaning"]
    yield from _table(*told)
    said = docs_of(cls)
    (node,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(node, ast.ClassDef)
    written = {
        one.target.id: ast.unparse(one.annotation)
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    for field in kinds.type_info(cls).fields:  # type: ignore[attr-defined]
        kind = _without_none(field.type)
        if not said[field.name]:
            raise SystemExit(f"{cls.__name__}.{field.name}: no comment says what it means")
        unit = unit_of(field.name, kind, written[field.name], said[field.name])
        cells = [f"`{field.name}`", _type(kind), unit, _default(field)]
        if reloaded:
            cells.append("yes" if field.name in RELOADED else "")
        yield _row([*cells, said[field.name]])


def words(cls: type[Enum]) -> Iterator[str]:
    said = docs_of(cls)
    for one in cls:
        if not said[one.name]:
            raise SystemExit(f"{cls.__name__}.{one.name}: no comment says what it means")
        yield _row([f"`{one.value}`", said[one.name]])


def codes() -> Iterator[str]:
    said = docs_of(Code)
    for code in Code:
        if not said[code.name]:
            raise SystemExit(f"Code.{code.name}: no comment says what it means")
        final = (
            "for good"
            if code in refusal.FINAL[refusal.Phase.HANDSHAKE]
            else "at first"
            if code in refusal.FINAL_AT_FIRST[refusal.Phase.HANDSHAKE]
            else ""
        )
        yield _row([f"`{code.value}`", final, said[code.name]])


def metrics() -> Iterator[str]:
    """Yield what a relay counts, as Prometheus is told it."""
    for one in sorted(METRICS, key=lambda one: one.name):
        name = f"{one.name}_total" if one.kind == "counter" else one.name
        yield _row([f"`{name}`", one.kind, ", ".join(one.labels), one.text])


def events(package: str) -> Iterator[str]:
    """Yield what a package logs: level, text, and the words beside it."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _LEVELS
                and ast.unparse(node.func.value) in ("log", "_log", "self._log")
                and node.args
            ):
                level = "error" if node.func.attr == "exception" else node.func.attr
                names = {one.arg or "…" for one in node.keywords} - {"exc_info"}
                for text in _texts(node.args[0]):
                    found.setdefault((text, level), set()).update(names)
    for (text, level), names in sorted(found.items()):
        yield _row([text, level, ", ".join(f"`{name}`" for name in sorted(names))])


def _texts(node: ast.expr) -> list[str]:
    """Return what an expression can say; `…` is what is known only then."""
    match node:
        case ast.Constant(value=str(text)):
            return [text.replace("%r", "…")]
        case ast.JoinedStr(values=parts):
            return ["".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts)]
        case ast.IfExp(body=one, orelse=other):
            return [*_texts(one), *_texts(other)]
        case _:
            return ["…"]


_HEAD = """\
# Reference

<!-- Made by `make reference` from the comments in the code: change those. -->

Made from the code's own comments. Times are seconds wherever nothing else is said. A key that is
not known, and a value that does not fit, are refused when the configuration is read.

## relay.toml

`relay serve --config FILE`. Each key is also a variable `ROAM_RELAY_` and its name in capitals
(`ROAM_RELAY_MAX_PLANES`), those of `[dns]` `ROAM_RELAY_DNS_` and theirs; flags go before variables,
and these before the file. *reload*: taken over at SIGHUP while the relay serves; the rest needs a
restart, and the log says so.
"""
_ZONE = """
### `[dns]`

The relay's own zone ([ddns.md](ddns.md)); without this table there is none.
"""
_CLUSTER = """
### `[cluster]`

Many relays as one ([scaling.md](scaling.md)); without this table the relay is alone. Variables are
`ROAM_RELAY_CLUSTER_` and the key's name.
"""
_PEER = """
## peer.toml

`peer --config FILE`, or `PeerConfig.load(FILE)`, or `PeerConfig(…)` in a program: checked alike.
"""
_POLICY = """
### The words of a policy

Clauses stand between commas: `only ipv6, not interface wwan*, prefer public, within 5`
([addresses.md](addresses.md)).
"""
_METRICS = """
## Metrics

At `/metrics` of the relay.
"""
_RELAY_LOG = """
## Log events of the relay

One line each; `…` in a text, and among the words, is what differs. With `log_format = "json"` the
text is `event`, and the words are keys beside `level` and `timestamp`.
"""
_PEER_LOG = """
## Log events of a peer

Through the standard logger `peers`; `peer -v` shows them.
"""
_CODES = """
## Error codes

On the wire, in `code` of what the library raises, and as labels of metrics. *final*: whether the
registration ends by it, for good or where it has never worked ([protocol.md](protocol.md) §13).
"""


def draw() -> str:
    """Return the page.

    Raises:
        SystemExit: something in the code has no comment, or a number no unit.
    """
    lines = [
        *(_HEAD, *keys(RelayConfig, reloaded=True), _ZONE, *keys(DnsConfig)),
        *("\n### `[mailbox]`\n", *keys(MailboxConfig)),
        *(_CLUSTER, *keys(ClusterConfig)),
        *(_PEER, *keys(PeerConfig), "\n### `[ddns]`\n", *keys(DdnsConfig)),
        *("\n### `[session]`\n", *keys(SessionSettings)),
        *(_POLICY, *_table("clause", "meaning"), *_said(VERBS)),
        *("", *_table("term", "a path that"), *_said(TERMS)),
        *("", *_table("`dial`", "meaning"), *words(Dial)),
        *(_METRICS, *_table("metric", "type", "labels", "meaning"), *metrics()),
        *(_RELAY_LOG, *_table("event", "level", "words"), *events("relay")),
        *(_PEER_LOG, *_table("event", "level", "words"), *events("peers")),
        *("\n## Exit codes\n", *_table("`peer`", "meaning"), *words(PeerExit)),
        *("", *_table("`relay`", "meaning"), *words(RelayExit)),
        *(_CODES, *_table("code", "final", "meaning"), *codes()),
    ]
    return "\n".join(lines) + "\n"


def _table(*titles: str) -> Iterator[str]:
    yield _row([*titles])
    yield _row(["---"] * len(titles))


def _said(table: dict[str, str]) -> Iterator[str]:
    return (_row([f"`{word}`", said]) for word, said in table.items())


def on_page() -> str:
    """Return what the page shows."""
    return PAGE.read_text() if PAGE.exists() else ""


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _without_none(kind: kinds.Type) -> kinds.Type:
    if isinstance(kind, kinds.UnionType):
        rest = [one for one in kind.types if not isinstance(one, kinds.NoneType)]
        return rest[0] if len(rest) == 1 else kinds.UnionType(tuple(rest))
    return kind


def _type(kind: kinds.Type) -> str:
    match kind:
        case kinds.BoolType():
            return "true or false"
        case kinds.IntType() | kinds.FloatType():
            name = "whole number" if isinstance(kind, kinds.IntType) else "number"
            return ", ".join([name, *_bounds(kind)])
        case kinds.StrType():
            return "text"
        case kinds.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case kinds.EnumType(cls=cls):
            return " or ".join(f"`{one.value}`" for one in cls)
        case kinds.VarTupleType(item_type=item):
            return f"array of {_type(item)}"
        case kinds.DictType(value_type=value):
            return f"table: name = {_type(value)}"
        case kinds.StructType():
            return "table, below"
        case kinds.UnionType(types=several):
            return " or ".join(_type(_without_none(one)) for one in several)
        case _:
            raise SystemExit(f"no word for the type {kind}")


def _bounds(kind: kinds.IntType | kinds.FloatType) -> Iterator[str]:
    for word, bound in (
        ("above", kind.gt),
        ("from", kind.ge),
        ("below", kind.lt),
        ("to", kind.le),
    ):
        if bound is not None:
            yield f"{word} {bound:,.10g}"


def _default(field: Any) -> str:
    if field.required:
        return "needed"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if isinstance(value, Enum):
        value = value.value
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float() | int():
            return f"{value:,.10g}" if value >= 10_000 else f"{value:g}"
        case msgspec.Struct():
            return "as below"
        case str() if value:
            return f"`{value}`"
        case tuple() if value:
            return " ".join(f"`{one}`" for one in value)
        case _:
            return "empty"


def main() -> int:
    """Write the page."""
    PAGE.write_text(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
