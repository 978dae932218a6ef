"""`peer block`: whom the commands of one key have nothing to do with."""

import asyncio
from pathlib import Path

import pytest

from peers import Identity
from relay.server import RelayServer
from tests.peers.cli.commands import peer, run_peer

GUIDS = [Identity.from_seed(bytes([number]) * 32).guid for number in range(1, 9)]


async def said(*words: str) -> list[str]:
    code, out, err = await run_peer(*words)
    assert code == 0, err
    return out.splitlines()


async def test_who_is_blocked_finds_no_service_until_let_in_again(
    tmp_path: Path, relay: RelayServer
) -> None:
    alice = ("--relay", relay.url, "--key", str(tmp_path / "alice.key"))
    bob = ("--relay", relay.url, "--key", str(tmp_path / "bob.key"))
    guid = (await said(*alice, "id"))[0]
    for flags, code in (((), 4), (("--remove",), 0)):
        await said(*bob, "block", guid, *flags)
        async with peer(*bob, "listen", "chat", "--echo", "--json") as listening:
            own = str((await listening.fact())["guid"])
            call = (*alice, "connect", own, "chat", "--mode", "central")
            async with peer(*call) as calling:
                if not code:
                    calling.say("hello")
                    assert await calling.line() == "hello"
                calling.end_input()
                assert await calling.ended() == code
    await said(*bob, "block", guid)
    code, _, err = await run_peer(*bob, "connect", guid, "chat")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "'peer block --remove'" in err


async def test_the_list(tmp_path: Path) -> None:
    key = str(tmp_path / "peer.key")
    assert await said("--key", key, "block") == []
    assert await said("--key", key, "block", *GUIDS[:2], GUIDS[0]) == [
        f"{GUIDS[0]} is blocked",
        f"{GUIDS[1]} is blocked",
        f"{GUIDS[0]} is blocked already",
    ]
    (tmp_path / "peer.key.blocked" / ".DS_Store").touch()
    assert await said("--key", key, "block") == sorted(GUIDS[:2])
    assert await said("--key", key, "block", "--remove", *GUIDS[1:3]) == [
        f"{GUIDS[1]} is blocked no more",
        f"{GUIDS[2]} was not blocked",
    ]
    assert await said("--key", key, "block", "--json") == [
        f'{{"guid":"{GUIDS[0]}","blocked":true}}'
    ]
    assert (tmp_path / "peer.key.blocked").stat().st_mode & 0o777 == 0o700
    assert not Path(key).exists(), "no key is made for a list"


async def test_several_that_change_it_at_once_lose_nothing(tmp_path: Path) -> None:
    key = str(tmp_path / "peer.key")
    await asyncio.gather(*(said("--key", key, "block", guid) for guid in GUIDS))
    assert await said("--key", key, "block") == sorted(GUIDS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((GUIDS[0], "../../etc/passwd"), "not a GUID"),
        ((GUIDS[0].upper(),), "not a GUID"),
        (("--remove",), "give a GUID to --remove"),
    ],
)
async def test_a_wrong_word_changes_nothing(
    tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    key = str(tmp_path / "peer.key")
    code, _, err = await run_peer("--key", key, "block", *words)
    assert (code, sentence in err) == (2, True), err
    assert await said("--key", key, "block") == []


async def test_what_the_disk_refuses_is_one_line(tmp_path: Path) -> None:
    key = tmp_path / "peer.key"
    (tmp_path / "peer.key.blocked").write_text("not a folder")
    for words in (("block", GUIDS[0]), ("block",), ("block", "--remove", GUIDS[0]), ("id",)):
        code, _, err = await run_peer("--key", str(key), *words)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert "peer.key.blocked" in err
