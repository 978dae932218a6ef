"""The disk of `relay serve --nodes` is full for a while: then letters are kept again."""

import asyncio
from pathlib import Path

import psutil
import pytest

from peers import Identity
from protocol.errors import Code
from protocol.mail import (
    Letter,
    LetterDone,
    LetterResponse,
    LetterService,
    LetterWindow,
    MailboxUpdate,
)
from tests.cluster.test_nodes import ANYONE, TIMEOUT, Fleet, kept, nats_of
from tests.relay.mailbox.test_on_sockets import PREKEY, leave, named
from tests.support import processes
from tests.support.small_disk import filled, small_disk


@pytest.mark.nightly
async def test_letters_are_kept_again_when_a_full_disk_has_room(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    flags = ("--nodes", "2", "--state", str(state), "--drain-timeout", "0")
    within = small_disk(state, 32)
    with processes.relay(tmp_path, *flags, within=within) as (url, process):
        # Its operator's sockets are where nobody else sees them.
        root = Path(f"/proc/{process.pid}/root{state}")
        (short := tmp_path / "s").symlink_to(root)
        relay, bob = Fleet(url, short, process), Identity.generate()
        async with asyncio.timeout(2 * TIMEOUT), named(url, bob) as there, named(url) as alice:
            await relay.whole()
            await kept(there, MailboxUpdate(1, (LetterService("chat", ANYONE),), PREKEY))
            await kept(alice, leave(there, 1))
            before, names = nats_of(relay), [1]
            with filled(process.pid, state):
                while True:  # What is begun of a page has room still.
                    alice.send(leave(there, names[-1] + 1))
                    answer = await alice.expect(LetterResponse)
                    if answer.code is not None:
                        break
                    names.append(names[-1] + 1)
                assert answer.code is Code.CLUSTER_UNAVAILABLE
                assert before.is_running(), "where there is no room a new start helps nobody"
            await asyncio.to_thread(psutil.wait_procs, [before], TIMEOUT)
            names.append(names[-1] + 1)
            await kept(alice, leave(there, names[-1]))
            assert nats_of(relay).pid != before.pid
            there.send(LetterWindow(64))
            found = [await there.expect(Letter) for _ in names]
            assert [int.from_bytes(one.id, "big") for one in found] == names
            there.send(LetterDone(tuple(one.number for one in found)))
            while await kept(there, MailboxUpdate(2)):
                pass
