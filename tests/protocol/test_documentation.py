"""docs/protocol.md names all that the code has: every message, field, limit of a word, and code."""

import re
from enum import EnumType
from pathlib import Path

import msgspec
import pytest

from peers.control import refusal
from protocol import (
    first_bytes,
    first_flight,
    identity,
    invitation,
    letters,
    messages,
    offer,
    prekeys,
    succession,
)
from protocol.conversation import MAX_FRAME as MAX_FRAME_OF_CONVERSATION
from protocol.conversation import (
    MAX_ITEMS,
    MAX_LETTER,
    Acknowledged,
    Announced,
    Letter,
    Messages,
    Receipt,
)
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry
from protocol.errors import Code
from protocol.features import (
    CONVERSATION,
    RELAY_FALLBACK,
    RELAY_FEATURES,
    SESSION_FEATURES,
    STANDBY,
)
from protocol.messages import Message
from protocol.session.frames import MAX_FRAME, MAX_SMALL_FRAME, Frame
from protocol.session.settings import MAX_PAYLOAD, MESSAGE_WEIGHT, SessionSettings
from protocol.session.states import TRANSITIONS, Input, State
from protocol.tables import FROM_PEER, FROM_RELAY, ON_PATH

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
TABLES = {**FROM_PEER, **FROM_RELAY, **ON_PATH}


def section(title: str) -> str:
    """Return the text under a heading, to the next heading of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", TEXT, re.M | re.S)
    assert match, f"no section {title!r}"
    return match[2]


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of the tables of a text, by their first cell in backticks."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {
        name[1:-1]: row
        for row in cells
        for name in [next((cell for cell in row[:2] if cell.startswith("`")), "")]
        if name
    }


@pytest.mark.parametrize("name", TABLES)
def test_every_message_has_a_section_with_its_fields(name: str) -> None:
    cls: type[Message] = TABLES[name]
    table = rows(section(name))
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    if name == "challenge":
        fields |= {field.name: field for field in msgspec.structs.fields(messages.Limits)}
    assert set(table) == set(fields)
    for field in fields.values():
        assert ("required" in table[field.name][1]) == field.required, field.name


def test_every_field_of_an_invitation_is_named() -> None:
    names = tuple(rows(section("The invitation")))
    assert names == invitation.Invitation.__struct_fields__


@pytest.mark.parametrize(
    "cls", [messages.LocationRecord, messages.ServiceRecord, SignedEntry, Entry]
)
def test_every_field_of_a_location_is_named(cls: type[msgspec.Struct]) -> None:
    table = rows(section("6. Location records"))
    assert set(cls.__struct_fields__) <= set(table)


def test_every_code_has_a_row_that_says_whether_it_is_final() -> None:
    table = rows(section("13. Error codes"))
    assert set(table) == {code.value for code in Code}
    for code in Code:
        final = (
            "for good"
            if code in refusal.FINAL[refusal.Phase.HANDSHAKE]
            else "at first"
            if code in refusal.FINAL_AT_FIRST[refusal.Phase.HANDSHAKE]
            else "no"
        )
        assert table[code.value][3] == final, code


@pytest.mark.parametrize(
    "words",
    [
        messages.Mode,
        messages.PeerState,
        messages.Verdict,
        messages.Disclosure,
        Phase,
        Provenance,
    ],
)
def test_every_word_of_a_closed_list_is_named(words: EnumType) -> None:
    for word in words:
        assert f"`{word.value}`" in TEXT


def test_every_frame_is_laid_out() -> None:
    table = rows(section("Frames"))
    assert {name: int(row[1][2:].split(",")[0]) for name, row in table.items()} == {
        frame.name.lower(): frame.value for frame in Frame
    }


def test_the_table_of_states_is_the_code_s() -> None:
    lines = [line for line in section("Close").splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    inputs = (
        Input.FINISH_HERE,
        Input.FINISH_THERE,
        Input.CLOSE_HERE,
        Input.CLOSE_THERE,
        Input.CLOSED_THERE,
        Input.LOSE,
    )
    told = {
        State(row[0]): {
            cause: State(word)
            for cause, word in zip(inputs, row[1:], strict=True)
            if word != "violation"
        }
        for row in cells
    }
    assert told == TRANSITIONS


def test_every_feature_has_a_row() -> None:
    assert f"{succession.MAX_LINKS}, of {succession.LINK_BYTES} bytes each" in section("challenge")
    assert set(rows(section("15. Versions"))) == {
        *RELAY_FEATURES,
        *SESSION_FEATURES,
        RELAY_FALLBACK,
        STANDBY,
        CONVERSATION,
    }
    for limit in (messages.MAX_FEATURES, messages.MAX_FEATURE_NAME):
        assert f"{limit}" in section("15. Versions")


@pytest.mark.parametrize(
    "context",
    [
        getattr(module, name)
        for module in (first_flight, identity, invitation, letters, offer, prekeys, succession)
        for name in module.__all__
        if "CONTEXT" in name
    ],
)
def test_every_context_is_written_out(context: bytes) -> None:
    assert context.decode().replace("\0", r"\0") in TEXT


def test_numbers_are_those_of_the_code() -> None:
    settings = SessionSettings()
    for number in (
        messages.MAX_MESSAGE_BYTES,
        MAX_PAYLOAD,
        MAX_FRAME,
        MAX_SMALL_FRAME,
        MESSAGE_WEIGHT,
        settings.window,
    ):
        assert f"{number:,}" in TEXT, number
    times = section("12. Times")
    for seconds in (
        settings.ping_interval,
        settings.silence_limit,
        settings.resume_window,
        settings.linger,
        messages.Limits().heartbeat,
        messages.Limits().lease,
    ):
        assert f"| {seconds:g} |" in times, seconds
    for word in (messages.UPGRADE_TOKEN, messages.WEBSOCKET_PROTOCOL):
        assert f"`{word}`" in TEXT


def test_the_flight_is_as_the_page_says() -> None:
    text = section("The sealed first flight")
    for size in (first_bytes.MAX_SEALED, first_bytes.FLIGHT_HEAD, first_flight.EXPORTED_BYTES):
        assert f"{size:,} " in text
    assert f"`{first_flight.EXPORTER_LABEL.decode()}`" in text
    for kind in first_bytes.FirstKind:
        assert f"0x{kind:02x} is" in section("What a path's stream begins with")


def test_links_inside_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    for link in re.findall(r"\]\(#([^)]*)\)", TEXT):
        assert link in anchors


def test_the_frames_of_a_conversation_and_their_limits() -> None:
    text = section("Frames of a conversation")
    frames = {"line": Announced, "messages": Messages, "ack": Acknowledged}
    items = {"message": Letter, "receipt": Receipt}
    assert set(rows(text)) == {*frames, *items, "nothing"}
    for name, cls in {**frames, **items}.items():
        assert f"`[{cls.__struct_config__.tag}, " in rows(text)[name][1]
    for limit in (MAX_FRAME_OF_CONVERSATION, MAX_LETTER, MAX_ITEMS):
        assert f"{limit:,}" in text
