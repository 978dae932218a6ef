"""The messenger of examples/chat by its keys, two of them at one relay."""

import asyncio
import html
import itertools
from functools import partial
from pathlib import Path

import pytest
from textual.widgets import Static

from peers import ContactLink, Identity, Mode
from tests.chat.world import Screen, eventually, relay_at, screen
from tests.support import scale
from tests.support.addresses import Addresses, absent_addresses
from tests.support.ports import free_port


async def both_know(alice: Screen, bob: Screen) -> None:
    """Have each be a contact of the other."""
    await alice.answer("ctrl+n", bob.messenger.link.text)
    await bob.answer("ctrl+n", alice.messenger.link.text)


async def test_a_contact_is_added_by_its_link_and_messages_go_both_ways(tmp_path: Path) -> None:
    async with (
        relay_at(0) as relay,
        screen(tmp_path, relay.url, "alice") as alice,
        screen(tmp_path, relay.url, "bob") as bob,
    ):
        await alice.answer("ctrl+n", bob.messenger.link.text)
        await alice.write("hello [red]Bob[/red]")
        # A stranger to Bob, who looks at the only one there is: kept, and not said to be read.
        await bob.shows("hello [red]Bob[/red]")
        await alice.mark("hello", "✓ delivered")
        await bob.write("and to you")
        await alice.shows("and to you")
        await bob.mark("and to you", "✓✓ read")
        await alice.write("once more")
        await alice.mark("once more", "✓✓ read")
        await eventually(lambda: "path: " in alice.status and "because" in alice.status)
        await eventually(lambda: "online" in alice.status)


async def test_what_is_typed_while_either_moves_is_whole_and_arrives_once(tmp_path: Path) -> None:
    here, there = (Addresses([f"127.0.{n}.{last}" for last in (1, 2, 3)]) for n in (21, 22))
    async with (
        relay_at(0) as relay,
        screen(tmp_path, relay.url, "alice", here) as alice,
        screen(tmp_path, relay.url, "bob", there) as bob,
    ):
        await both_know(alice, bob)
        await alice.write("hello")
        await alice.mark("hello", "✓✓ read")
        guid = bob.messenger.identity.guid

        def is_at(host: str) -> bool:
            session = alice.messenger.session(guid)
            path = None if session is None else session.path
            return path is not None and host in f"{path.local} {path.remote}"

        await eventually(lambda: is_at(there.all[0]))
        texts = []
        moves = ((there, 1), (here, 1), (there, 2), (here, 2))
        with absent_addresses():
            for moving, last in moves[: scale.of(2, 4)]:
                host = moving.all[last]
                await alice.press(*"now ")
                moving.set(host)
                texts.append(f"now {host}")
                await alice.press(*host, "enter")
                await bob.shows(texts[-1])
                await alice.mark(texts[-1], "✓✓ read")
                await eventually(partial(is_at, host))
        said = [text for line in bob.said for text in texts if text in line]
        assert said == texts


@pytest.mark.nightly
async def test_what_was_said_is_there_after_a_restart_of_either_and_of_the_relay(
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with screen(tmp_path, url, "alice") as alice:
        async with relay_at(port), screen(tmp_path, url, "bob") as bob:
            await alice.answer("ctrl+n", bob.messenger.link.text)
            await bob.answer("ctrl+n", alice.messenger.link.text)
            await alice.write("before")
            await alice.mark("before", "✓✓ read")
        # Bob and the relay are gone.
        await alice.write("while you were away")
        await alice.mark("while you were away", "· queued")
        async with relay_at(port), screen(tmp_path, url, "bob") as bob:
            assert bob.messenger.link.name == "Bob"
            await bob.shows("before")
            await bob.shows("while you were away")
            await alice.mark("while you were away", "✓✓ read")
            assert sum("before" in line for line in bob.said) == 1


@pytest.mark.nightly
async def test_what_is_written_before_there_is_a_relay_is_kept(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with screen(tmp_path, url, "bob") as bob:
        async with screen(tmp_path, url, "alice") as alice:
            await alice.answer("ctrl+n", bob.messenger.link.text)
            await bob.answer("ctrl+n", alice.messenger.link.text)
            await alice.write("early")
            await alice.mark("early", "· queued")
            assert "it is tried again" in alice.status
        async with screen(tmp_path, url, "alice") as alice, relay_at(port):
            await bob.shows("early")
            await alice.mark("early", "✓✓ read")


@pytest.mark.nightly
async def test_what_others_send_is_shown_and_does_nothing(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\x07 [bold]b[/] [@click=app.quit()]x[/] \u202egnp.exe\u2066 end"
    async with (
        relay_at(0) as relay,
        screen(tmp_path, relay.url, "alice") as alice,
        screen(tmp_path, relay.url, "bob") as bob,
    ):
        named = ContactLink(bob.messenger.identity.guid, (relay.url,), name="[red]Bob[/red]")
        await alice.answer("ctrl+n", named.text)
        friend = alice.messenger.friends[named.guid]
        await alice.messenger.write(friend, hostile)
        shown = r"\x1b[31mred\x07 [bold]b[/] [@click=app.quit()]x[/] \u202egnp.exe\u2066 end"
        await bob.shows(shown)
        assert friend.name == "[red]Bob[/red]"
        await eventually(lambda: "[red]Bob[/red]: online" in alice.status)

        def drawn() -> str:
            return html.unescape(bob.app.export_screenshot()).replace("\xa0", " ")

        # A line is drawn a moment after it is there.
        await eventually(lambda: "[bold]b[/]" in drawn(), pause=0.1)
        assert not {"\x1b", "\x07", "\u202e", "\u2066"} & set(drawn())


@pytest.mark.nightly
async def test_a_file_arrives_and_is_never_written_over_another(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_bytes(b"x" * 200_000)
    async with (
        relay_at(0) as relay,
        screen(tmp_path, relay.url, "alice") as alice,
        screen(tmp_path, relay.url, "bob") as bob,
    ):
        await alice.answer("ctrl+n", bob.messenger.link.text)
        await eventually(lambda: "online" in alice.status)
        # Bob has not added her: he gets nothing but words.
        await alice.answer("ctrl+f", str(file))
        await alice.shows("files are taken from contacts alone")
        await bob.answer("ctrl+n", alice.messenger.link.text)
        for name in ("letter.txt", "letter-2.txt"):
            await alice.answer("ctrl+f", str(file))
            await bob.shows(f"saved as {tmp_path / 'bob-downloads' / name}")
            assert (tmp_path / "bob-downloads" / name).read_bytes() == file.read_bytes()
        await alice.mark("letter.txt (200,000 bytes)", "✓ delivered")
        assert file.read_bytes() == b"x" * 200_000


@pytest.mark.nightly
async def test_the_mode_of_a_contact_is_another_one_and_nothing_is_lost(tmp_path: Path) -> None:
    async with (
        relay_at(0) as relay,
        screen(tmp_path, relay.url, "alice") as alice,
        screen(tmp_path, relay.url, "bob") as bob,
    ):
        await alice.answer("ctrl+n", bob.messenger.link.text)
        await bob.answer("ctrl+n", alice.messenger.link.text)
        guid = bob.messenger.identity.guid
        modes = [Mode.P2P, Mode.CENTRAL]
        for mode in modes:
            await alice.press("ctrl+o")
            await alice.write(f"in {mode.value}")
            await alice.mark(f"in {mode.value}", "✓✓ read")
            assert f"mode {mode.value}" in alice.status
        assert [contact.mode for contact in alice.messenger.book.contacts()] == [Mode.CENTRAL]
        await eventually(lambda: alice.messenger.session(guid) is not None)
        await alice.press("ctrl+e")
        await eventually(lambda: len(alice.app.screen_stack) == 2)
        assert "because" in str(alice.app.screen.query_one("#text", Static).content)
        await alice.press("escape")


@pytest.mark.nightly
async def test_who_is_blocked_is_asked_about_once_and_hears_nothing(tmp_path: Path) -> None:
    async with (
        relay_at(0) as relay,
        screen(tmp_path, relay.url, "alice") as alice,
        screen(tmp_path, relay.url, "bob") as bob,
    ):
        await alice.answer("ctrl+n", bob.messenger.link.text)
        await alice.write("buy this")
        await bob.shows("buy this")
        await bob.press("ctrl+b")
        assert bob.messenger.listed
        await bob.press("ctrl+b")
        await eventually(lambda: not bob.messenger.listed)
        await alice.write("and this")
        await alice.mark("and this", "· queued")
        await bob.answer("ctrl+n", alice.messenger.link.text)
        await bob.shows("and this")
        await bob.shows("buy this")


async def test_what_comes_while_the_program_ends_finds_no_screen_and_is_no_error(
    tmp_path: Path,
) -> None:
    async with screen(tmp_path, None, "alice") as alice:
        friend = alice.messenger.add(ContactLink(Identity.generate().guid, (), name="Bob").text)

        async def come() -> None:
            for mode in itertools.cycle(Mode):
                alice.messenger.set_mode(friend, mode)
                await asyncio.sleep(0)

        coming = asyncio.create_task(come())
        await eventually(lambda: "Bob" in alice.status)
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)


@pytest.mark.nightly
async def test_each_empty_screen_and_each_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen(tmp_path, None, "alice") as alice:
        welcome = alice.app.query_one("#welcome", Static)
        await eventually(lambda: "--relay" in str(welcome.content))
        assert "press Ctrl+N" in alice.status
        said: list[str] = []
        monkeypatch.setattr(alice.app, "notify", lambda text, **how: said.append(text))
        await alice.write("to nobody")
        await alice.answer("ctrl+n", "https://example.org")
        await alice.answer("ctrl+n", alice.messenger.link.text)
        assert "Ctrl+N" in said[0]
        assert "begins with 'roam:'" in said[1]
        assert "your own link" in said[2]
        await alice.press("ctrl+k")
        await eventually(lambda: len(alice.app.screen_stack) == 2)
        assert alice.messenger.link.text in str(alice.app.screen.query_one("#text", Static).content)
