"""The vectors of conversations: frames, what is refused, and what is made of a line."""

from typing import Any

import msgpack

__all__ = ["FRAMES", "LETTERS", "LINES", "PARTS", "PASSED_OVER", "REFUSED", "REFUSED_LETTERS"]

LINE, OTHER, NAME = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 48))

FRAMES: list[tuple[str, list[Any]]] = [
    ("line", [0, LINE, 1]),
    ("line", [0, LINE, 70_000]),
    ("line", [0, LINE, 70_000, 4]),
    ("messages", [1, LINE, 1, [[0, NAME, 1_764_000_000.25, b"hello"]]]),
    ("messages", [1, LINE, 70_000, [None, [1, NAME, None], [1, NAME, "not that"], None]]),
    ("ack", [2, LINE, 0, 1000, 0]),
    ("ack", [2, LINE, 70_003, 997, 70_003]),
]
"""The frame's name, and what it is."""

PASSED_OVER: list[tuple[str, str, list[Any]]] = [
    ("R17.6", "a frame of a later version", [3, LINE]),
    ("R17.6", "an element more", [0, LINE, 1, 0, "more"]),
    ("R17.8", "an item of a later version", [1, LINE, 1, [[2, NAME]]]),
]

REFUSED: list[tuple[str, str, Any]] = [
    ("R17.7", "no array", {"line": LINE}),
    ("R17.7", "an array without elements", []),
    ("R17.7", "a first element that is a truth", [True, LINE, 1]),
    ("R17.7", "a name that is too short", [0, LINE[:15], 1]),
    ("R17.7", "a name that is a text", [0, "l" * 16, 1]),
    ("R17.7", "a line that begins at nought", [0, LINE, 0]),
    ("R17.7", "an element less", [2, LINE, 1, 1]),
    ("R17.7", "a number below nought", [2, LINE, -1, 1, 1]),
    ("R17.7", "a number that is none", [2, LINE, 1.0, 1, 1]),
    ("R17.7", "no items", [1, LINE, 1, []]),
    ("R17.7", "too many items", [1, LINE, 1, [None] * 257]),
    ("R17.7", "an item that is none", [1, LINE, 1, [b"hello"]]),
    ("R17.7", "a payload that is too large", [1, LINE, 1, [[0, NAME, 0.0, bytes(57_345)]]]),
    ("R17.5", "a frame that is too large", [1, LINE, 1, [[0, NAME, 0.0, bytes(40_000)]] * 4]),
    ("R17.16", "a line that was not announced", [1, OTHER, 1, [None]]),
    ("R17.16", "a number that is missing before it", [1, LINE, 3, [None]]),
]
"""After `[0, LINE, 1]`, of which nothing was received before: the rule, what it is, the value."""

LINES: list[dict[str, Any]] = [
    {"rule": rule, "current": current, "known": known, "first": first, "answer": answer}
    for rule, current, known, first, answer in (
        ("R17.14", 0, None, 1, [0, 0]),
        ("R17.14", 7, None, 8, [7, 7]),
        ("R17.14", 7, 7, 3, [7, 7]),
        ("R17.15", 0, None, 8, [7, 0]),
        ("R17.15", 4, 4, 8, [7, 4]),
        ("R17.15", 7, None, 1, [0, 7]),
        ("R17.20", 7, None, 4, [3, 7]),
    )
]
"""`answer` is what `ack` says: received, before."""

LETTERS: list[list[Any]] = [
    [0, 0, None, [LINE, 0, None, 1, [[0, NAME, 1_764_000_000.25, b"hello"]]]],
    [4, 3, [LINE, 70_000, 0], [OTHER, 7, LINE, 9, [None, [1, NAME, None]]]],
    [4, 4, [LINE, 7, -2], None],
    [6, 0, None, [LINE, 3, None, 4, []]],
]

REFUSED_LETTERS: list[tuple[str, str, Any]] = [
    ("R17.25", "no array", {"line": LINE}),
    ("R17.25", "an element less", [0]),
    ("R17.25", "an epoch below nought", [-1, 0, None, None]),
    ("R17.25", "a line that is too short", [0, 0, None, [LINE[:15], 0, None, 1, []]]),
    ("R17.25", "a number that is nought", [0, 0, None, [LINE, 0, None, 0, []]]),
    ("R17.25", "too many items", [0, 0, None, [LINE, 0, None, 1, [None] * 257]]),
    ("R17.25", "an item that is none", [0, 0, None, [LINE, 0, None, 1, [b"hello"]]]),
    ("R17.25", "an answer that is a number", [0, 0, 7, None]),
]

PARTS: list[dict[str, Any]] = [
    {
        "rule": rule,
        "known": known,
        "follows": follows,
        "current": current,
        "part": {"begins": begins, "follows": chained, "first": first, "count": count},
        "has": has,
    }
    for rule, known, follows, current, (begins, chained, first, count), has in (
        ("R17.27", None, None, 0, (0, False, 1, 3), 0),
        ("R17.27", 5, None, 5, (0, False, 4, 3), 5),
        ("R17.27", 5, None, 5, (0, False, 6, 1), 5),
        ("R17.27", None, 7, 7, (7, True, 8, 1), 7),
        ("R17.27", None, None, 2, (7, False, 8, 1), 7),
        ("R17.27", None, None, 9, (7, False, 8, 1), 7),
        ("R17.28", 5, None, 5, (0, False, 7, 1), None),
        ("R17.28", None, None, 7, (7, True, 8, 1), None),
        ("R17.28", None, 6, 6, (7, True, 8, 1), None),
        ("R17.28", None, 7, 7, (7, True, 9, 1), None),
        ("R17.27", 5, None, 5, (0, False, 9, 0), 5),
    )
]
"""`has` is what the recipient has of the line before it takes the items; None: it takes none."""


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value))
