"""The messenger of examples/chat by its keys, two of them at one relay."""

from pathlib import Path

from tests.chat.world import eventually, relay_at, screen


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
