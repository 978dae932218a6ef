"""The test vectors, as docs/protocol.md §16 describes them: a copy of docs/protocol-vectors.json
that is installed with the library. Which of them are tried, and how, is not here.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["Vectors", "load", "value", "whole"]

Vectors = dict[str, Any]
"""The file, by its keys."""


@cache
def load() -> Vectors:
    """Return the file."""
    vectors: Vectors = json.loads((files(__package__) / "vectors.json").read_text())
    return vectors


def value(plain: Any) -> Any:
    """Return what a value of the file stands for."""
    if isinstance(plain, dict):
        match plain:
            case {"hex": str(digits)} if len(plain) == 1:
                return bytes.fromhex(digits)
            case {"float": number} if len(plain) == 1:
                return float(number)
            case {"int": str(digits)} if len(plain) == 1:
                return int(digits)
        return {key: value(item) for key, item in plain.items()}
    return [value(item) for item in plain] if isinstance(plain, list) else plain


def whole(vector: Vectors) -> bytes:
    """Return the bytes of a vector, with those that it repeats."""
    data = bytes.fromhex(vector["bytes"])
    if repeat := vector.get("then_repeat"):
        data += bytes.fromhex(repeat["bytes"]) * int(repeat["times"])
    return data
