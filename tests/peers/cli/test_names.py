"""Names that others give to files: what is legal stays, what is dangerous does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.cli.names import names_for, safe_name
from protocol.text import shown


@pytest.mark.parametrize(
    "name",
    [
        "plain.txt",
        "song[red].mp3",
        "what?.txt",
        "ω" * 100 + ".txt",
        "日本.tar.gz",
        "a b",
        "~x",
        "-rf",
    ],
)
def test_what_harms_nobody_stays(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (" .bashrc", "bashrc"),
        ("\u3000.\u00a0.ssh", "ssh"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("x\x9b31my.txt", "x_31my.txt"),
        ("invoice\u202etxt.exe", "invoice_txt.exe"),
        ("a\nb\x7f", "a_b_"),
        ("caf\udce9.txt", "caf_.txt"),
        ("nul.txt", "_nul.txt"),
        ("COM1", "_COM1"),
        ("console", "console"),
        ("name. . ", "name"),
        ("c:stream", "c_stream"),
        ("...", "file"),
        ("", "file"),
        ("a" * 240 + ".tar.gz", "a" * 233 + ".tar.gz"),
        ("ω" * 125 + ".txt", "ω" * 118 + ".txt"),
        ("日" * 83 + ".txt", "日" * 78 + ".txt"),
        ("." + "x" * 250, "x" * 240),
        ("x" * 10 + "." + "y" * 240, "x" * 10 + "." + "y" * 229),
    ],
)
def test_what_is_changed(name: str, expected: str) -> None:
    assert safe_name(name) == expected


@given(st.text(max_size=255))
def test_no_name_is_dangerous(name: str) -> None:
    for one in names_for(name):
        assert 0 < len(one.encode()) <= 240
        assert shown(one) == one
        assert one[0] != "."
        assert not one[0].isspace()
        assert not set(one) & set("/\\:")
        assert safe_name(one) == one


def test_what_a_file_system_may_refuse_becomes_plainer() -> None:
    assert list(names_for('what?"日".txt')) == ['what?"日".txt', "what__日_.txt", "what____.txt"]
    assert len(list(names_for("日" * 83))[1].encode()) <= 120
