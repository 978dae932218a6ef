"""What a program hands over, checked where it does: the wrong kind is a `TypeError`, a value that
cannot be used a `ValueError` with what is allowed, or an error of ours that says so.

Each returns the value as it is used inside. What a file or a whole configuration may say is in
peer.py and dns.py.
"""

from collections.abc import Collection
from typing import Literal, TypeAlias

import msgspec

from peers.config.kinds import Dial
from peers.config.policy import Policy
from protocol.endpoint import Endpoint
from protocol.errors import IdentityError, UnknownService
from protocol.identity import public_key_of
from protocol.messages import MAX_DISCLOSE, MAX_METADATA, Disclosure, Mode, Service

__all__ = [
    "DialWord",
    "ModeWord",
    "SelectWord",
    "ServiceNameError",
    "checked_address",
    "checked_count",
    "checked_dial",
    "checked_disclosure",
    "checked_flag",
    "checked_function",
    "checked_guid",
    "checked_guids",
    "checked_kind",
    "checked_metadata",
    "checked_mode",
    "checked_policy",
    "checked_port",
    "checked_seconds",
    "checked_service",
]

_LONGEST = 86_400.0
"""Seconds: as in the configuration."""
_SERVICE = msgspec.json.Decoder(Service)

ModeWord: TypeAlias = Mode | Literal["p2p", "central", "combined", "auto"]
"""A mode, or its word."""
DialWord: TypeAlias = Dial | Literal["open", "careful", "proven"]
"""Which endpoints are dialed where the peer's key was not met, or its word."""
SelectWord: TypeAlias = Literal["fastest", "latest"]
"""Which endpoint is dialed, where the program does not choose itself."""
Disclosed: TypeAlias = tuple[Disclosure, tuple[str, ...]]
"""Who may learn of something, and the GUIDs where they are listed."""


class ServiceNameError(UnknownService, ValueError):
    """This cannot be the name of a service: nobody can offer it."""


class GuidError(IdentityError, ValueError):
    """This names no key."""


def checked_kind(what: str, value: object, kinds: type | tuple[type, ...], words: str) -> None:
    """Refuse a value that is none of these kinds. A bool is no number here."""
    given = isinstance(value, kinds)
    if not given or (isinstance(value, bool) and kinds is not bool):
        raise TypeError(f"{what} is {words}, not {_named(value)}")


def checked_guid(value: object, what: str = "guid") -> str:
    """Check a GUID.

    Raises:
        IdentityError: it is a text, but names no key.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a GUID (52 base32 characters), not {_named(value)}")
    try:
        public_key_of(value)
    except IdentityError as error:
        raise GuidError(f"{what}: {error.reason}") from None
    return value


def checked_guids(value: object, what: str) -> tuple[str, ...]:
    """Check a collection of GUIDs; a GUID alone is none."""
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Collection):
        raise TypeError(f"{what} is a collection of GUIDs, not {_named(value)}")
    return tuple(checked_guid(one, what) for one in value)


def checked_service(value: object) -> str:
    """Check the name of a service.

    Raises:
        ServiceNameError: nobody can offer it.
    """
    checked_kind("service", value, str, "a name")
    try:
        return _SERVICE.decode(msgspec.json.encode(value))
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise ServiceNameError(
            f"service is not a service name: {_shown(value)} "
            "(1 to 63 of a-z, 0-9 and inner hyphens)"
        ) from None


def checked_dial(value: object) -> Dial:
    """Read the word for whom to dial."""
    allowed = "'open', 'careful' or 'proven'"
    if not isinstance(value, str):
        raise TypeError(f"dial is {allowed}, not {_named(value)}")
    try:
        return Dial(value)
    except ValueError:
        raise ValueError(f"dial is {allowed}, not {_shown(value)}") from None


def checked_metadata(value: object) -> bytes:
    """Check what is said to another application, and copy it where it can change."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"metadata is bytes, not {_named(value)}: encode a text first")
    data = bytes(value)
    if len(data) > MAX_METADATA:
        raise ValueError(f"metadata has at most {MAX_METADATA} bytes, not {len(data)}")
    return data


def checked_mode(value: object) -> Mode:
    """Read the word for a mode."""
    allowed = "'p2p', 'central', 'combined' or 'auto'"
    if not isinstance(value, str):
        raise TypeError(f"mode is {allowed}, not {_named(value)}")
    try:
        return Mode(value)
    except ValueError:
        raise ValueError(f"mode is {allowed}, not {_shown(value)}") from None


def checked_policy(value: object) -> Policy:
    """Read a path policy.

    Raises:
        PolicyError: it cannot be read.
    """
    if not isinstance(value, str):
        raise TypeError(f"policy is a text (docs/addresses.md), not {_named(value)}")
    return Policy.parse(value)


def checked_seconds(value: object, what: str = "timeout") -> float:
    """Check a time that somebody may wait, in seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} is a number of seconds, not {_named(value)}")
    if not 0 < value <= _LONGEST:  # NaN is in no range.
        raise ValueError(f"{what} is above 0 and at most {_LONGEST:g} seconds, not {value}")
    return float(value)


def checked_count(value: object, what: str) -> int:
    """Check how many of something there may be."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} is a whole number, not {_named(value)}")
    if value < 1:
        raise ValueError(f"{what} is at least 1, not {value}")
    return value


def checked_flag(value: object, what: str) -> bool:
    """Check a yes or no: a text would always be yes."""
    checked_kind(what, value, bool, "True or False")
    return bool(value)


def checked_port(value: object) -> int:
    """Check a TCP port."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"port is a number, not {_named(value)}")
    if not 0 < value < 65536:
        raise ValueError(f"port is not a TCP port: {value}")
    return value


def checked_address(value: object) -> str:
    """Check an address of a host, and return it as it is told to others.

    Raises:
        ProtocolViolation: it is a text, but nothing can be dialed there.
    """
    if not isinstance(value, str):
        raise TypeError(f"address is an IP address as text, not {_named(value)}")
    return Endpoint.parse(value, 1).host


def checked_disclosure(value: object) -> Disclosed:
    """Read who may learn of something: a word, or GUIDs."""
    allowed = "'anyone', 'nobody' or a collection of GUIDs"
    if isinstance(value, str):
        if value not in (Disclosure.ANYONE.value, Disclosure.NOBODY.value):
            raise ValueError(f"disclose is {allowed}, not {_shown(value)}")
        return Disclosure(value), ()
    if isinstance(value, Collection) and len(value) > MAX_DISCLOSE:
        raise ValueError(f"disclose may list at most {MAX_DISCLOSE} GUIDs, not {len(value)}")
    return Disclosure.LISTED, checked_guids(value, "disclose")


def checked_function(value: object, what: str) -> None:
    """Check that something can be called."""
    if not callable(value):
        raise TypeError(f"{what} is a function, not {_named(value)}")


def _named(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:76] + "...'"
