"""What others send is shown, and does nothing: characters that act, and names of files."""

import pytest

from examples.chat.clean import cleaned, file_name
from examples.chat.transfer import Offer


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\r\nb", r"a\x0d\x0ab"),
        ("\u202ecod.exe", r"\u202ecod.exe"),
        ("\u2067\u2069\u200b\ufeff", r"\u2067\u2069\u200b\ufeff"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("[red]as it is[/red] \\[b]", "[red]as it is[/red] \\[b]"),
        ("שלום 👩\u200d💻 é", "שלום 👩\u200d💻 é"),
        ("e" + "\u0301" * 50, "e" + "\u0301" * 4),
        ("x" * 9_000, "x" * 8_000 + "…"),
    ],
)
def test_what_acts_is_written_out(text: str, shown: str) -> None:
    assert cleaned(text) == shown


def test_the_lines_of_a_message_stay_where_they_are_meant_to() -> None:
    assert cleaned("one\ntwo\x1b", lines=True) == "one\ntwo\\x1b"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system.ini", "system.ini"),
        (".bashrc", "bashrc"),
        ("..", "file"),
        ("", "file"),
        ("a\x00b\n.txt", "a_x00b_x0a.txt"),
        ("con<>|?.txt", "con____.txt"),
        ("é" * 100, "é" * 60),
    ],
)
def test_a_file_of_others_has_a_name_of_one_plain_part(told: str, kept: str) -> None:
    assert file_name(told) == kept


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"name": 1, "size": 1}',
        b'{"name": "a", "size": -1}',
        b'{"name": "a", "size": true}',
        b'{"name": "a", "size": 1.5}',
        b"[" * 1_000,
    ],
)
def test_what_is_no_offer_of_a_file_is_none(metadata: bytes) -> None:
    assert Offer.read(metadata) is None


def test_an_offer_fits_into_metadata_however_long_the_name_is() -> None:
    offer = Offer("\u2603" * 250 + ".txt", 1 << 40)
    assert len(offer.metadata) <= 1_024
    read = Offer.read(offer.metadata)
    assert read is not None
    assert read.size == 1 << 40
    assert read.name.endswith(".txt")
