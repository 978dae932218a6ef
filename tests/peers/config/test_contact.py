"""Contact links: what one says, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.config.contact import MAX_LINK, MAX_NAME, ContactLink, ContactLinkError
from protocol.identity import Identity
from protocol.text import shown

GUID = Identity.from_seed(b"\1" * 32).guid
RELAY = "https://relay.example:8440"

names = st.text(min_size=1, max_size=MAX_NAME // 4).filter(lambda text: shown(text) == text)


@given(name=names | st.none(), relays=st.lists(st.just(RELAY), max_size=3))
def test_what_is_made_is_read(name: str | None, relays: list[str]) -> None:
    link = ContactLink(GUID, tuple(relays), "peers.example.org", name)
    assert ContactLink.parse(link.text) == link
    assert link.text.isascii()


def test_how_it_is_written() -> None:
    link = ContactLink(GUID, (RELAY, "dns:example.org"), name="Zoë & Co")
    assert str(link) == (
        f"roam:{GUID}?relay=https:%2F%2Frelay.example:8440&relay=dns:example.org"
        "&name=Zo%C3%AB%20%26%20Co"
    )
    assert str(ContactLink(GUID)) == f"roam:{GUID}"


def test_what_people_and_later_versions_do_to_a_link_is_borne() -> None:
    for text in (
        f" roam:{GUID}\n",
        f"ROAM:{GUID.upper()}",
        f"roam:{GUID}?later=1&also",
        f"roam:{GUID}#somewhere",
        f"roam://{GUID}/",
    ):
        assert ContactLink.parse(text) == ContactLink(GUID)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with 'roam:'"),
        (GUID, "begins with 'roam:'"),
        ("https://example.org", "begins with 'roam:'"),
        ("roam:", "GUID"),
        (f"roam:{GUID[:-1]}", "GUID"),
        (f"roam:{GUID}?relay=ftp://relay.example", "no relay's URL"),
        (f"roam:{GUID}?relay=http://", "no relay's URL"),
        (f"roam:{GUID}?relay=http://user:secret@relay.example", "no relay's URL"),
        (f"roam:{GUID}?relay=http://[", "no relay's URL"),
        (f"roam:{GUID}?relay=http://a%0Ab", "no relay's URL"),
        (f"roam:{GUID}" + "?" + "&".join(["relay=http://a"] * 9), "at most 8 relays"),
        (f"roam:{GUID}?name=%ff", "'name' is no text"),
        (f"roam:{GUID}?name=", "a name of 1 to 64"),
        (f"roam:{GUID}?name=a&name=b", "more than one name"),
        (f"roam:{GUID}?name=%1b%5b31m", "no control characters"),
        (f"roam:{GUID}?name=%E2%80%AE", "no control characters"),
        (f"roam:{GUID}?zone=no%20zone", "a contact link: "),
        (f"roam:{GUID}?later=" + "x" * MAX_LINK, "at most 1024"),
    ],
)
def test_what_is_no_link_is_said(text: str, says: str) -> None:
    with pytest.raises(ContactLinkError, match=says):
        ContactLink.parse(text)


@given(st.text(max_size=200) | st.text(max_size=200).map(lambda text: f"roam:{GUID}?{text}"))
def test_whatever_comes_nothing_else_is_raised(text: str) -> None:
    try:
        link = ContactLink.parse(text)
    except ContactLinkError:
        return
    assert ContactLink.parse(link.text) == link


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", object(), [GUID]])
def test_a_program_that_passes_the_wrong_thing_is_told_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match="guid"):
        ContactLink(wrong)
    with pytest.raises(TypeError, match="text"):
        ContactLink.parse(wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match="name"):
            ContactLink(GUID, name=wrong)
        with pytest.raises(TypeError, match="zone"):
            ContactLink(GUID, zone=wrong)
    with pytest.raises(TypeError, match="relays"):
        ContactLink(GUID, (wrong,) if wrong != [GUID] else GUID)  # type: ignore[arg-type]
