"""`peer link`, and links in place of GUIDs."""

import json
from pathlib import Path

import pytest

from peers.config import ContactLink
from protocol.identity import Identity
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.cli import commands

GUID = Identity.from_seed(b"\1" * 32).guid
RELAY = "https://relay.example"


async def test_a_peer_makes_its_link_and_says_what_is_in_one(tmp_path: Path) -> None:
    words = ("--key", str(tmp_path / "a.key"), "--relay", RELAY)
    code, said, _ = await commands.run_peer(*words, "link", "--name", "Alice")
    assert code == 0
    found = ContactLink.parse(said)
    assert (found.relays, found.name) == ((RELAY,), "Alice")
    local = ("--key", str(tmp_path / "a.key"), "--relay", "http://127.0.0.1:8440")
    _, _, told = await commands.run_peer(*local, "link")
    assert told == "the relay that it names is reached from this host alone\n"
    _, _, told = await commands.run_peer("--key", str(tmp_path / "a.key"), "link")
    assert told == "it names no relay: others need yours (peer --relay URL link)\n"
    code, said, _ = await commands.run_peer("link", found.text)
    assert said.splitlines() == [
        f"guid   {found.guid}",
        f"relay  {RELAY}",
        "name   Alice (by its own word)",
    ]
    code, said, _ = await commands.run_peer("link", found.text, "--json")
    assert json.loads(said) == {
        "guid": found.guid,
        "relays": [RELAY],
        "zone": None,
        "name": "Alice",
        "link": found.text,
    }
    code, _, err = await commands.run_peer("link", "roam:nobody")
    assert code == 2
    assert err.startswith("peer: a contact link: ")
    assert len(err.splitlines()) == 1


async def test_a_qr_code_is_drawn_or_written(tmp_path: Path) -> None:
    words = ("--key", str(tmp_path / "a.key"), "link")
    code, said, _ = await commands.run_peer(*words, "--qr")
    assert code == 0
    drawn = said.splitlines()[2:]
    assert len({len(line) for line in drawn}) == 1
    assert len(drawn) == (len(drawn[0]) + 1) // 2
    assert drawn[0] == "█" * len(drawn[0])
    for name, magic in (("code.svg", b"<?xml"), ("code.PNG", b"\x89PNG")):
        assert (await commands.run_peer(*words, "--out", str(tmp_path / name)))[0] == 0
        assert (tmp_path / name).read_bytes().startswith(magic)
    for name, code in (("code.txt", 2), ("none/code.svg", 2)):
        assert (await commands.run_peer(*words, "--out", str(tmp_path / name)))[0] == code


@pytest.mark.parametrize("form", ["link", "guid"])
async def test_a_link_is_a_guid_and_names_the_relay(tmp_path: Path, form: str) -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        listening = (
            *("--relay", relay.url, "--key", str(tmp_path / "a.key")),
            *("listen", "chat", "--echo", "--json"),
        )
        async with commands.peer(*listening, stdin=None) as listener:
            guid = (await listener.fact())["guid"]
            # Where a relay is configured, it is that one.
            named = relay.url if form == "link" else "http://127.0.0.1:1"
            words = ("--key", str(tmp_path / "b.key"))
            words += () if form == "link" else ("--relay", relay.url)
            link = ContactLink(guid, (named,)).text
            code, said, err = await commands.run_peer(*words, "ping", link, "chat", "--count", "1")
            assert code == 0, err
            assert "1 round trips" in said + err
