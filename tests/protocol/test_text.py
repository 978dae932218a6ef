"""Text of others, made safe to show: nothing acts, every letter stays."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.text import shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain", "plain"),
        ("no such file [/etc/motd]", "no such file [/etc/motd]"),
        ("[fd00::1]:4000", "[fd00::1]:4000"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("one\r\ntwo\ttabs", r"one\x0d\x0atwo\x09tabs"),
        ("\x9b31m C1", r"\x9b31m C1"),
        ("\x7f", r"\x7f"),
        ("safe\u202egpj.exe", r"safe\u202egpj.exe"),
        ("line\u2028next", r"line\u2028next"),
        ("name\udcff", r"name\udcff"),
        ("a\U000e0041b", r"a\U000e0041b"),
        ("Ωμέγα 日本 naïve שלום 👩‍💻", "Ωμέγα 日本 naïve שלום 👩‍💻"),
        (r"C:\x1b", r"C:\x1b"),
        ("", ""),
    ],
)
def test_what_acts_is_escaped_and_the_rest_stays(text: str, said: str) -> None:
    assert shown(text) == said


def test_what_may_stay_is_told() -> None:
    assert shown("a\n\tb\x1b\r", keep="\n\t") == "a\n\tb\\x1b\\x0d"


@given(st.text(st.characters(codec=None)))
def test_nothing_that_is_shown_acts(text: str) -> None:
    said = shown(text)
    assert not [one for one in said if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(said) & set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2069")
    assert shown(said) == said
    said.encode()
