"""Settings that are made by hand are held to the same types and bounds as those from a file."""

from functools import cache

import msgspec

__all__ = ["check"]

_fields = cache(msgspec.structs.fields)
"""Of each class, once: to look at its annotations takes longer than to check what is there."""


def check(settings: msgspec.Struct) -> None:
    """Check every field against its type, and put it into it: `"combined"` becomes the mode, a list
    a tuple. Call it from `__post_init__`; what comes out of a decoder passes.

    Raises:
        ValueError: a value does not fit; says which and why.
    """
    for field in _fields(type(settings)):
        value = getattr(settings, field.name)
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{field.name}: no name, path or word holds a NUL")
        try:
            fits = msgspec.convert(value, field.type)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            raise ValueError(f"{field.name}: {error}") from None
        if fits is not value:
            msgspec.structs.force_setattr(settings, field.name, fits)
