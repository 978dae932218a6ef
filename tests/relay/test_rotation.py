"""Another key for a relay: on the disk, whenever it is cut off, and on the wire."""

import os
import time
from pathlib import Path

import dns.tsig
import dns.update
import pytest
from click.testing import CliRunner, Result

from protocol.errors import IdentityError
from protocol.identity import Identity
from protocol.succession import MAX_LINKS, follow, link
from relay.backup import back_up, restore
from relay.cli import main
from relay.config import DnsConfig, RelayConfig
from relay.dns import DnsKeys
from relay.key_file import read_key
from relay.keys import Former, Keys
from relay.rotation import end, former_file, read_former, rotate
from relay.server import RelayServer
from tests.relay.dns import asking
from tests.support.full_disk import full_disk

A, B, C = (Identity.from_seed(bytes([number]) * 32) for number in range(1, 4))
LATER = time.time() + 3600


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


# -- which key a peer is answered under ----------------------------------------------------------


def keys(now: float = 0.0) -> Keys:
    former = (Former(A, link(A, B), 100.0), Former(B, link(B, C), 50.0))
    return Keys(C, former, lambda: now)


def test_a_peer_is_answered_under_the_key_that_it_wants() -> None:
    for now, wanted, shown, to in (
        (0.0, None, C, ()),
        (0.0, C.guid, C, ()),
        (0.0, A.guid, A, (B.guid, C.guid)),
        (0.0, B.guid, B, (C.guid,)),
        (0.0, "another's", C, ()),
        (60.0, B.guid, C, ()),  # Its time is over, though an older one's is not.
        (60.0, A.guid, A, (B.guid, C.guid)),
        (100.0, A.guid, C, ()),
    ):
        identity, links = keys(now).wanted(wanted, follows=True)
        assert identity is shown, (now, wanted)
        assert follow(identity.guid, links) == to


def test_who_cannot_say_what_it_wants_is_shown_what_it_may_have_pinned() -> None:
    for now, shown in ((0.0, A), (60.0, A), (100.0, C)):
        assert keys(now).wanted(None, follows=False) == (shown, ())


# -- on the disk ---------------------------------------------------------------------------------


def key_in(folder: Path) -> str:
    file = str(folder / "relay.key")
    assert run("key", file).exit_code == 0
    return file


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def test_a_key_is_changed_and_the_old_one_kept(tmp_path: Path) -> None:
    file = key_in(tmp_path)
    first = read_key(file)
    done = run("rotate", "--identity", file, "--for", "30d")
    assert done.exit_code == 0, done.output
    second = read_key(file)
    assert done.stdout.strip() == second.guid
    assert first.guid in done.stderr
    assert "Restart the relay" in done.stderr
    (former,) = read_former(file, second)
    assert former.identity.guid == first.guid
    assert follow(first.guid, [former.link]) == (second.guid,)
    assert 29.9 * 86_400 < former.until - time.time() <= 30 * 86_400
    assert {os.stat(tmp_path / name).st_mode & 0o777 for name in names(tmp_path)} == {0o600}
    rotate(file, 3600)
    third = read_key(file)
    both = read_former(file, third)
    assert follow(first.guid, [one.link for one in both]) == (second.guid, third.guid)
    # All of it is in a backup.
    config = RelayConfig(identity=file)
    assert back_up(config, str(tmp_path / "backup")) == ("relay.key", "relay.key.former")
    other = RelayConfig(identity=str(tmp_path / "new" / "r"))
    assert restore(str(tmp_path / "backup"), other)[0] == third.guid
    again = read_former(str(tmp_path / "new" / "r"), third)
    assert [(one.link, one.until) for one in again] == [(one.link, one.until) for one in both]
    assert "no former key is kept" in run("rotate", "--identity", file, "--end").stderr
    assert read_former(file, third) == ()
    assert not end(file)


def test_the_files_stay_their_owner_s(tmp_path: Path) -> None:
    """The superuser changes the key of a relay that runs as somebody else, and puts it back."""
    file, owner = key_in(tmp_path), 65_534 if os.getuid() == 0 else os.getuid()
    os.chown(file, owner, -1)
    rotate(file, 3600)
    assert {os.stat(one).st_uid for one in (file, former_file(file))} == {owner}
    back_up(RelayConfig(identity=file), str(tmp_path / "backup"))
    new = tmp_path / "new"
    new.mkdir(0o700)
    os.chown(new, owner, -1)
    restore(str(tmp_path / "backup"), RelayConfig(identity=str(new / "relay.key")))
    assert {one.stat().st_uid for one in new.iterdir()} == {owner}


def test_a_change_that_was_cut_off_is_gone_on_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power fails before each step that writes; the relay has a key, and nobody is lost."""
    file = key_in(tmp_path)
    first = read_key(file)
    with full_disk(), pytest.raises(IdentityError, match="cannot make the key"):
        rotate(file, 3600)
    assert names(tmp_path) == {"relay.key"}
    real, left = os.replace, 1

    def replace(source: str, goal: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(5, "power failure")
        real(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(IdentityError, match="power failure"):
        rotate(file, 3600)
    assert names(tmp_path) == {"relay.key", "relay.key.next", "relay.key.former"}
    assert read_key(file).guid == first.guid
    assert read_former(file, first) == ()
    assert "was not finished" in caplog.text
    promised = read_key(f"{file}.next")
    left = 10
    _, new = rotate(file, 3600)
    assert new.guid == promised.guid == read_key(file).guid
    assert len(read_former(file, new)) == 1
    # Cut off before its last step: the next change makes another one.
    (tmp_path / "relay.key.next").write_bytes(new.to_pem())
    (tmp_path / "relay.key.next").chmod(0o600)
    _, newer = rotate(file, 3600)
    assert newer.guid != new.guid


def test_what_is_no_file_of_former_keys_is_refused(tmp_path: Path) -> None:
    file = key_in(tmp_path)
    rotate(file, 3600)
    current = read_key(file)
    kept = Path(former_file(file))
    whole = kept.read_bytes()
    for content, mode, says in (
        (b"", 0o600, "holds no former keys"),
        (whole[:-9], 0o600, "holds no former keys"),
        (whole, 0o644, "can be read by others"),
    ):
        kept.write_bytes(content)
        kept.chmod(mode)
        with pytest.raises(IdentityError, match=says):
            read_former(file, current)
    kept.chmod(0o600)
    with pytest.raises(IdentityError, match="does not lead to the relay's key"):
        read_former(file, A)


def test_what_is_over_is_told_and_goes_with_the_next_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = key_in(tmp_path)
    rotate(file, -1.0)
    (former,) = read_former(file, read_key(file))
    assert "is not served any more" in caplog.text
    rotate(file, 3600)
    (now,) = read_former(file, read_key(file))
    assert now.identity.guid != former.identity.guid


def test_there_is_a_bound(tmp_path: Path) -> None:
    file = key_in(tmp_path)
    for _ in range(MAX_LINKS):
        rotate(file, 3600)
    with pytest.raises(IdentityError, match="8 former keys are served already"):
        rotate(file, 3600)


def test_a_relay_without_a_key_file_has_nothing_to_change(tmp_path: Path) -> None:
    done = run("rotate", "--state", "")
    assert done.exit_code == 1
    assert "which key?" in done.output
    assert "cannot read the key" in run("rotate", "--state", str(tmp_path)).output


# -- what depends on the key ---------------------------------------------------------------------


async def test_a_zone_takes_the_keys_of_before_for_as_long(tmp_path: Path) -> None:
    config = RelayConfig(port=0, dns=DnsConfig(zone=asking.ZONE, port=0, addresses="127.0.0.1"))
    old = DnsKeys(A, asking.ZONE).key(asking.ALICE.guid)
    strange = DnsKeys(C, asking.ZONE).key(asking.ALICE.guid)
    for until, taken in ((LATER, True), (0.0, False)):
        async with RelayServer(config, B, former=[Former(A, link(A, B), until)]) as server:
            assert await asking.sent(server, signed(asking.key_of(server))) == 0
            assert await is_taken(server, old) == taken
            assert not await is_taken(server, strange)
            assert asking.key_of(server).secret == DnsKeys(B, asking.ZONE).secret(asking.ALICE.guid)


async def is_taken(server: RelayServer, key: dns.tsig.Key) -> bool:
    try:
        return await asking.sent(server, signed(key)) == 0
    except dns.tsig.PeerError:
        return False


def signed(key: object) -> dns.update.UpdateMessage:
    message = dns.update.UpdateMessage(f"{asking.ZONE}.")
    message.use_tsig(key)
    message.replace(asking.NAME, 60, "A", "192.0.2.1")
    return message
