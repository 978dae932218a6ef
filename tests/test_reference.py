"""docs/reference.md is what the code says, and what other pages show of it is true."""

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect as kinds

from peers.config import PeerConfig
from relay.config import RELOADED, load
from tests import reference

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL))
]


def test_the_page_is_what_the_code_says() -> None:
    """A key, a metric, a line of the log or a code that was renamed is red here."""
    assert reference.on_page() == reference.draw(), "make reference"


class Wordless(msgspec.Struct):
    """One key without a comment."""

    key: int = 1


def test_a_key_without_a_comment_is_no_key() -> None:
    with pytest.raises(SystemExit, match=r"Wordless\.key: no comment"):
        list(reference.keys(Wordless))


@pytest.mark.parametrize(
    ("name", "annotation", "said", "unit"),
    [
        ("drain_timeout", "float", "", "s"),
        ("patience", "_Seconds", "", "s"),
        ("outbox_bytes", "_Count", "", "bytes"),
        ("max_planes", "_Count", "", "count"),
        ("work_in_all", "_Share", "", "part of 1"),
        ("requests_per_second", "float", "", "a second"),
    ],
)
def test_a_number_has_a_unit(name: str, annotation: str, said: str, unit: str) -> None:
    kind: kinds.Type = kinds.IntType() if annotation == "_Count" else kinds.FloatType()
    assert reference.unit_of(name, kind, annotation, said) == unit


def test_a_number_without_a_unit_is_told() -> None:
    with pytest.raises(SystemExit, match="weight: which unit"):
        reference.unit_of("weight", kinds.FloatType(), "float", "How heavy it is.")
    assert reference.unit_of("weight", kinds.StrType(), "str", "") == ""


@pytest.mark.parametrize("text", BLOCKS)
def test_what_a_page_configures_can_be_configured(text: str, tmp_path: Path) -> None:
    """Every key that a page shows is one of the relay's file, or of the peer's."""
    file = tmp_path / "shown.toml"
    file.write_text(text)
    values = msgspec.toml.decode(text)
    refusals = []
    for read in (lambda: load(str(file), {}, {}), lambda: PeerConfig.load(file)):
        try:
            read()
        except ValueError as error:
            refusals.append(str(error))
    unknown = [said for said in refusals if "unknown" in said]
    assert values
    assert len(unknown) < 2, unknown


WORD = re.compile(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)[`= ]")
SOURCES = [
    path for package in ("peers", "relay", "protocol") for path in (ROOT / package).rglob("*.py")
]
OTHERS = {"close_notify", "worker_connections"}
"""Words of TLS and of nginx."""


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every word of the code, of the test vectors, and every metric."""
    vectors = ROOT / "docs" / "protocol-vectors.json"
    words = {word for path in (*SOURCES, vectors) for word in re.findall(r"\w+", path.read_text())}
    shown = reference.on_page().partition("## Metrics")[2].partition("\n## ")[0]
    metrics = re.findall(r"^\| `(\w+?)(?:_total)?` \|", shown, re.MULTILINE)
    return words | {f"{name}{end}" for name in metrics for end in ("", "_total")} | OTHERS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_word_of_the_code_that_a_page_uses_is_there(page: Path, known: set[str]) -> None:
    """Also where a page speaks of a key, a metric or a code in passing."""
    words = {word for word in WORD.findall(page.read_text()) if not word.startswith("test_")}
    assert words <= known, "and names of tests are looked at by test_security_page.py"


def test_the_page_of_the_commands_names_what_is_reloaded() -> None:
    (told,) = re.findall(
        r"What can change while it serves(.*?)Of the rest",
        (ROOT / "docs" / "commands.md").read_text(),
        re.DOTALL,
    )
    named = set(re.findall(r"`(\w+)`", told))
    assert named | {"tls_certificate", "tls_key"} == set(RELOADED)
