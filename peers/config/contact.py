"""Contact links: how one peer hands itself on to people, by mail, on paper or as a QR code.

    roam:GUID?relay=https%3A%2F%2Frelay.example&name=Alice

A link says who, and where to ask for it; it is no secret and admits nobody. What is in it is the
word of whoever made it: the name above all. Unknown keys are passed over, so that later ones may
say more. No I/O.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType
from urllib.parse import quote, unquote, urlsplit

from peers.config.arguments import checked_kind
from protocol.dns_records import parse_zone
from protocol.errors import ProtocolViolation, RoamRelayError
from protocol.identity import public_key_of
from protocol.text import shown

__all__ = ["MAX_LINK", "MAX_NAME", "MAX_RELAYS", "ContactLink", "ContactLinkError"]

MAX_LINK = 1024
"""Characters: what a QR code that a phone reads from a screen can hold."""
MAX_NAME = 64
"""Characters of a name."""
MAX_RELAYS = 8

_SCHEME = "roam:"
_RELAYS = ("http://", "https://", "dns:")


class ContactLinkError(RoamRelayError, ValueError):
    """A contact link cannot be read, or not be made. Says why."""


@dataclass(frozen=True, slots=True)
class ContactLink:
    """Who somebody is, and where to ask for it. Made of values, or by `parse`.

    Raises `ContactLinkError` where a value cannot be in a link.
    """

    guid: str
    """Who it is."""
    relays: tuple[str, ...] = ()
    """URLs, as `PeerConfig.relay` has them, the first to try first."""
    zone: str | None = None
    """A DNS zone where the peer registers."""
    name: str | None = None
    """What the one who made the link wants to be called: for people, and to be believed of nobody
    who has not handed the link over himself."""

    def __post_init__(self) -> None:
        checked_kind("guid", self.guid, str, "a text")
        checked_kind("relays", self.relays, (tuple, list), "a tuple of URLs")
        for url in self.relays:
            checked_kind("relays", url, str, "a tuple of URLs")
        checked_kind("zone", self.zone, (str, NoneType), "a text")
        checked_kind("name", self.name, (str, NoneType), "a text")
        object.__setattr__(self, "relays", tuple(self.relays))
        try:
            public_key_of(self.guid)
            if self.zone is not None:
                parse_zone(self.zone)
        except (RoamRelayError, ProtocolViolation) as error:
            raise ContactLinkError(f"a contact link: {error}") from None
        if len(self.relays) > MAX_RELAYS:
            raise ContactLinkError(f"a contact link: at most {MAX_RELAYS} relays")
        for url in self.relays:
            if not _is_relay(url):
                raise ContactLinkError(f"a contact link: no relay's URL: {shown(url[:80])!r}")
        if self.name is not None and not (0 < len(self.name) <= MAX_NAME):
            raise ContactLinkError(f"a contact link: a name of 1 to {MAX_NAME} characters")
        if self.name is not None and shown(self.name) != self.name:
            raise ContactLinkError("a contact link: no control characters in a name")
        if len(self.text) > MAX_LINK:
            raise ContactLinkError(f"a contact link: more than {MAX_LINK} characters")

    @property
    def text(self) -> str:
        """The link."""
        pairs = [("relay", url) for url in self.relays]
        pairs += [("zone", self.zone)] if self.zone is not None else []
        pairs += [("name", self.name)] if self.name is not None else []
        # A space is %20: `+` means one in forms alone.
        said = "&".join(f"{key}={quote(value, safe=':')}" for key, value in pairs)
        return f"{_SCHEME}{self.guid}" + (f"?{said}" if said else "")

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> "ContactLink":
        """Read a link. Spaces and line ends around it, and capitals as QR codes have them, are no
        fault.

        Raises:
            ContactLinkError: it is none.
        """
        checked_kind("text", text, str, "a text")
        text = text.strip()
        if len(text) > MAX_LINK:
            raise ContactLinkError(f"a contact link has at most {MAX_LINK} characters")
        if not text.lower().startswith(_SCHEME):
            raise ContactLinkError("a contact link begins with 'roam:'")
        guid, _, said = text[len(_SCHEME) :].partition("#")[0].partition("?")
        values: dict[str, list[str]] = {"relay": [], "zone": [], "name": []}
        for pair in filter(None, said.split("&")):
            key, _, value = pair.partition("=")
            try:
                values.get(key.lower(), []).append(unquote(value, errors="strict"))
            except UnicodeDecodeError:
                raise ContactLinkError(f"a contact link: {shown(key[:20])!r} is no text") from None
        for key in ("zone", "name"):
            if len(values[key]) > 1:
                raise ContactLinkError(f"a contact link: more than one {key}")
        zone, name = (_one(values[key]) for key in ("zone", "name"))
        return cls(guid.strip("/").lower(), tuple(values["relay"]), zone, name)


def _one(values: Iterable[str]) -> str | None:
    return next(iter(values), None)


def _is_relay(url: str) -> bool:
    """Whether a relay may be named so; whoever uses it reads it whole."""
    if not url.startswith(_RELAYS) or shown(url) != url or any(map(str.isspace, url)):
        return False
    try:
        parts = urlsplit(url)
        return url.startswith("dns:") or (bool(parts.hostname) and "@" not in parts.netloc)
    except ValueError:
        return False
