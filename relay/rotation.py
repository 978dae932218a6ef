"""Another key for a relay: made beside the old one, which signs it and is served for a while.

Beside the key file stands one for the keys of before (`.former`), and for a moment the one of the
next (`.next`). Each step leaves what the next attempt goes on from, whenever the power fails.
"""

import base64
import contextlib
import os
import time

import msgspec

from protocol.errors import IdentityError, ProtocolViolation
from protocol.identity import Identity
from protocol.succession import MAX_LINKS, follow, link
from relay import disk
from relay.key_file import read_key
from relay.keys import Former
from relay.log import log

__all__ = ["end", "former_file", "read_former", "rotate"]

_LONGEST = 65_536


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    link: str
    until: float


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int = 1
    former: tuple[_Kept, ...] = ()


def former_file(file: str) -> str:
    """Return where the keys of before are kept, which stand beside a key."""
    return f"{file}.former"


def read_former(file: str, current: Identity) -> tuple[Former, ...]:
    """Return the keys that stood in a key file before, the oldest first; `current` is the one that
    stands there now.

    Raises:
        IdentityError: they cannot be read, others may read them, or they do not lead to this one.
    """
    former, is_whole = _read(former_file(file), current)
    if not is_whole:
        log.warning("a change of the key was not finished: run 'relay rotate' again", file=file)
    for one in former:
        if one.until <= time.time():
            log.warning(
                "a former key is not served any more: 'relay rotate --end' removes it",
                relay=one.identity.guid,
            )
    return former


def rotate(file: str, seconds: float) -> tuple[Identity, Identity]:
    """Put a new key in the place of the one in a file, and keep that for so long; return both.

    Raises:
        IdentityError: it cannot be done; the key in the file is the relay's still.
    """
    old = read_key(file)
    former, _ = _read(former_file(file), old)
    while former and former[0].until <= time.time():
        former = former[1:]
    if len(former) >= MAX_LINKS:
        raise IdentityError(
            f"{MAX_LINKS} former keys are served already: 'relay rotate --end' removes them"
        )
    new = _next(f"{file}.next", old)
    kept = (*former, Former(old, link(old, new), time.time() + seconds))
    try:
        owner = os.stat(file)
        disk.replace(former_file(file), _written(kept))
        disk.give(former_file(file), owner)
        disk.replace(file, new.to_pem())
        disk.give(file, owner)
        os.unlink(f"{file}.next")
    except OSError as error:
        raise IdentityError(f"cannot change the key {file}: {error.strerror}") from None
    return old, new


def end(file: str) -> bool:
    """Keep no former key any more; return whether there was one.

    Raises:
        IdentityError: it cannot be removed.
    """
    try:
        os.unlink(former_file(file))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise IdentityError(f"cannot remove {former_file(file)}: {error.strerror}") from None
    return True


def _next(file: str, old: Identity) -> Identity:
    """Return the key that comes next; it is on the disk before the old one signs it."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.exists(file):
            found = read_key(file)
            if found.guid != old.guid:
                return found
            os.unlink(file)  # The last change was cut off when it was done but for this.
    made = Identity.generate()
    try:
        disk.make(file, made.to_pem())
    except FileExistsError:
        return read_key(file)
    except OSError as error:
        raise IdentityError(f"cannot make the key {file}: {error.strerror}") from None
    return made


def _written(former: tuple[Former, ...]) -> bytes:
    kept = tuple(
        _Kept(one.identity.to_pem().decode(), base64.b64encode(one.link).decode(), one.until)
        for one in former
    )
    return msgspec.json.encode(_File(former=kept))


def _read(file: str, current: Identity) -> tuple[tuple[Former, ...], bool]:
    """Return the former keys, and whether the last change of keys was finished."""
    try:
        data, mode = disk.read(file, _LONGEST)
    except FileNotFoundError:
        return (), True
    except OSError as error:
        raise IdentityError(f"cannot read the former keys {file}: {error.strerror}") from None
    try:
        found = msgspec.json.decode(data, type=_File)
        former = tuple(
            Former(
                Identity.from_pem(one.key.encode(), file_mode=mode, name=file),
                base64.b64decode(one.link, validate=True),
                one.until,
            )
            for one in found.former
        )
    except (msgspec.DecodeError, ValueError) as error:
        raise IdentityError(f"{file} holds no former keys: {error}") from None
    is_whole = not former or former[-1].identity.guid != current.guid
    former = former if is_whole else former[:-1]
    names = [*(one.identity.guid for one in former[1:]), current.guid]
    try:
        fits = not former or names == list(
            follow(former[0].identity.guid, [one.link for one in former])
        )
    except ProtocolViolation:
        fits = False
    if not fits:
        raise IdentityError(
            f"{file} does not lead to the relay's key: put back the key that belongs to it, or "
            "move it away (who pins a former key cannot follow then)"
        )
    return former, is_whole
