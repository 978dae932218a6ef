"""Text of others, made safe to show: on a terminal, in a log, on a page.

Only what would act where it is shown is replaced; letters of every language stay. Where a text may
be shown and how long is decided by who shows it.
"""

import re

__all__ = ["shown"]

_ACTS = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 with the newline, DEL and C1: escape sequences, faked lines.
    "\u2028\u2029"  # Ends of a line and of a paragraph.
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # Direction: text that reads as another.
    "\ud800-\udfff"  # Half a character: what no encoding can write.
    "\U000e0000-\U000e007f"  # Tags, which nobody sees.
    "]"
)


def shown(text: str, *, keep: str = "") -> str:
    """Return the text with each character that acts on what shows it written as `\\x1b`, `\\u202e`.

    `keep` are such characters that may stay: `"\\n\\t"` where several lines are meant. A backslash
    stays as it is: the result is for people, and cannot be turned back.
    """
    return _ACTS.sub(
        lambda found: found[0] if found[0] in keep else _escape(ord(found[0])),
        text,
    )


def _escape(number: int) -> str:
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
