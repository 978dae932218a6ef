"""Letters that are left at a relay and fetched from it: what each costs there, and on its disk.

One client leaves them, many at once, as conversations do after a time without a network; another
one then fetches them, a window at a time. Both are told by bytes that are made beforehand, so that
it is the relay that is measured. What sealing and opening cost a peer is measured beside it.
"""

import os
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Row, cpu_seconds
from protocol.codec import encode
from protocol.features import MAILBOX
from protocol.identity import Identity
from protocol.letters import open_letter, seal_letter
from protocol.mail import (
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterService,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
)
from protocol.messages import Disclosure
from protocol.prekeys import SignedPrekey, make_prekey
from tests.relay.client import Client, client
from tests.support import processes

__all__ = ["LIMITS", "measure_letters"]

SIZES = (512, 4096)
"""Bytes of a sealed letter: the smallest one, and one of 3.9 KiB of text."""
_WINDOW = 64
LIMITS = """
requests_per_second = 1e6
requests_burst = 1000000
work_per_peer = 1.0
work_per_network = 1.0
work_in_all = 1.0
[mailbox]
max_letters_per_peer = 1000000
max_letters = 1000000
bytes_per_peer = 8589934592
bytes_in_all = 8589934592
letters_per_second = 1e6
letters_burst = 1000000
"""
"""Of a relay that has time for one peer alone."""


async def measure_letters(count: int) -> list[Row]:
    """Return letters a second, CPU of the relay for each, and bytes of disk, for each size."""
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "relay.toml").write_text(LIMITS)
            words = ("--config", str(folder / "relay.toml"), "--state", str(folder / "state"))
            with processes.relay(folder, *words) as (url, process):
                rows += await _measure(url, process.pid, folder / "state", count, size)
    return rows + _sealing()


async def _measure(url: str, pid: int, state: Path, count: int, size: int) -> list[Row]:
    contender, what = "roam-relay", f"letters of {size} bytes"
    async with client(url) as sender, client(url) as recipient:
        for one in (sender, recipient):
            await one.hello(features=(MAILBOX,))
            await one.register()
        services = (LetterService("chat", Disclosure.LISTED, (sender.identity.guid,)),)
        recipient.send(MailboxUpdate(1, services, SignedPrekey(bytes(48), bytes(64))))
        answer = await recipient.expect(MailboxState)
        assert answer.code is None, answer
        disk, cpu, began = _disk(state), cpu_seconds(pid), time.perf_counter()
        await _leave(sender, recipient.identity.guid, count, size)
        left, left_cpu = time.perf_counter() - began, cpu_seconds(pid) - cpu
        disk = _disk(state) - disk
        cpu, began = cpu_seconds(pid), time.perf_counter()
        await _fetch(recipient, count)
        fetched, fetched_cpu = time.perf_counter() - began, cpu_seconds(pid) - cpu
    return [
        Row(contender, f"{what}, left", count / left, "letters/s"),
        Row(contender, f"{what}, relay CPU for one left", left_cpu / count * 1e6, "µs"),
        Row(contender, f"{what}, fetched and done", count / fetched, "letters/s"),
        Row(contender, f"{what}, relay CPU for one fetched", fetched_cpu / count * 1e6, "µs"),
        Row(contender, f"{what}, disk for one that waits", disk / count, "bytes"),
    ]


async def _leave(sender: Client, guid: str, count: int, size: int) -> None:
    """As many at once as one peer may have waiting for the store."""
    sealed = os.urandom(size)
    most, answered = 16, 0
    for number in range(count):
        sender.writer.write(
            encode(LetterLeave(number, guid, "chat", number.to_bytes(16, "big"), sealed, 86_400))
        )
        while number + 1 - answered >= most:
            answered += await _answer(sender)
    while answered < count:
        answered += await _answer(sender)


async def _answer(sender: Client) -> int:
    answer = await sender.expect(LetterResponse)
    assert answer.code is None, answer
    return 1


async def _fetch(recipient: Client, count: int) -> None:
    recipient.writer.write(encode(LetterWindow(_WINDOW)))
    for number in range(1, count + 1):
        letter = await recipient.expect(Letter)
        if number % 16 == 0 or number == count:
            first = letter.number - (number - 1) % 16
            recipient.writer.write(encode(LetterDone(tuple(range(first, letter.number + 1)))))


def _disk(state: Path) -> int:
    return sum(file.stat().st_size for file in state.glob("mailbox.sqlite*"))


def _sealing(count: int = 300) -> list[Row]:
    """What a peer pays for a letter of 200 bytes."""
    alice, bob = Identity.generate(), Identity.generate()
    private = os.urandom(32)
    prekey = make_prekey(1, private, one_time=False)
    began = time.thread_time()
    sealed = [
        seal_letter(alice, bob.guid, prekey, ("chat", number.to_bytes(16, "big"), bytes(200)))
        for number in range(count)
    ]
    between = time.thread_time()
    for one in sealed:
        open_letter(bob.guid, one, private)
    ended = time.thread_time()
    return [
        Row("a peer", "sealing a letter", (between - began) / count * 1e6, "µs"),
        Row("a peer", "opening a letter", (ended - between) / count * 1e6, "µs"),
    ]
