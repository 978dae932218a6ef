"""Text of others, made safe to show on a terminal: it is shown, and does nothing.

What it says as Textual's or Rich's markup (`[red]`) is nobody's business here: whoever shows it
hands it over as plain text.
"""

import unicodedata

__all__ = ["cleaned", "file_name"]

_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode: controls, marks of direction, half a character, ends of lines."""
_JOINER = "\u200d"
"""Joins two signs into one, in emoji and in some scripts; it does nothing else."""
_MARKS = 4
"""Marks above one another on one letter; more of them reach into the lines of others."""
_NAME = 120
"""Bytes of a file's name."""


def cleaned(text: str, *, limit: int = 8_000, lines: bool = False) -> str:
    """Return the text with each character that acts written as `\\x1b` or `\\u202e`, with `limit`
    characters at most. With `lines` its line ends stay."""
    kept: list[str] = []
    marks = 0
    for letter in text[:limit]:
        kind = unicodedata.category(letter)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if letter == "\n" and lines:
            kept.append(letter)
        elif kind in _ACTING and letter != _JOINER:
            kept.append(_written(ord(letter)))
        elif marks <= _MARKS:
            kept.append(letter)
    return "".join(kept) + ("…" if len(text) > limit else "")


def file_name(text: str) -> str:
    """Return the name under which a file of others is kept: never a folder, never hidden."""
    last = cleaned(text.replace("\\", "/").rpartition("/")[2], limit=_NAME).replace("\\", "_")
    last = "".join("_" if letter in '<>:"|?*' else letter for letter in last).strip(" .")
    return last.encode()[:_NAME].decode(errors="ignore") or "file"


def _written(number: int) -> str:
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
