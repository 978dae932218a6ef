"""Names for files that others send: none that leads elsewhere, hides, or acts where it is shown.

What is legal at the sender's stays as it is, as far as it is that and the file system takes it.
"""

import re
from collections.abc import Iterator

from protocol.text import shown

__all__ = ["names_for", "safe_name"]

_LIMIT = 240
"""Bytes of a name, so that a number in front of it still fits into the 255 of most file systems."""
_SHORT = 120
"""Bytes where even that is too much: encrypted folders take 143."""
_EXTENSION = re.compile(r"(\.[^\s.]{1,10}){1,2}$")
"""`.gz`, and `.tar.gz`."""
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
"""What Windows takes for a device, with any extension."""


def safe_name(name: str) -> str:
    """Return a file name that cannot leave its folder, hide, act on a terminal or stand for a
    device; it has at most 240 bytes, and keeps its extension."""
    plain = "".join("_" if one in "/\\:" or shown(one) != one else one for one in name)
    plain = re.sub(r"^[\s.]+|[\s.]+$", "", plain)
    if _DEVICES.match(plain):
        plain = f"_{plain}"
    return _cut(plain, _LIMIT) or "file"


def names_for(name: str) -> Iterator[str]:
    """Yield the safe name, then what may do where the file system refuses it: a short one without
    what FAT has not, and one in ASCII."""
    safe = safe_name(name)
    yield safe
    short = _cut(re.sub(r'[<>"|?*]', "_", safe), _SHORT)
    yield short
    yield re.sub(r"[^\x20-\x7e]", "_", short)


def _cut(name: str, limit: int) -> str:
    if len(name.encode()) <= limit:
        return name
    found = _EXTENSION.search(name)
    extension = found[0] if found and found.start() else ""
    stem = name[: len(name) - len(extension)].encode()[: limit - len(extension.encode())]
    return stem.decode(errors="ignore").rstrip(" .") + extension
