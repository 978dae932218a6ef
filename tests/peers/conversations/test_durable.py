"""The order of the disk and the word: seen from outside, by system calls."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

from tests.support import processes
from tests.support.named import need

COUNT = 5


def test_a_word_is_said_after_its_transaction_is_on_the_disk(tmp_path: Path) -> None:
    """What says `delivered`, and what `send` returns from: each has its own fdatasync before it."""
    strace = need("strace", "strace")
    store, trace = tmp_path / "store.db", tmp_path / "trace"
    done = subprocess.run(
        [
            *(strace, "-f", "-y", "--seccomp-bpf", "-e", "trace=fdatasync,write", "-o", str(trace)),
            *(sys.executable, "-m", "tests.peers.conversations.durable", str(store), str(COUNT)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env=processes.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[tuple[str, int]] = []
    syncs = 0
    for line in trace.read_text().splitlines():
        if re.search(r"fdatasync\(\d+<[^>]*store\.db-wal>.*= 0$", line):
            syncs += 1
        elif word := re.search(r'write\(1<[^>]*>, "((?:delivered|safe) \d+)\\n"', line):
            said.append((word[1], syncs))
    expected = [f"delivered {number}" for number in range(COUNT + 1)]
    expected += [f"safe {number}" for number in range(1, COUNT + 1)]
    assert [word for word, _ in said] == expected
    for (_, before), (word, after) in itertools.pairwise(said):
        assert after > before, f"{word!r} was said before its transaction was on the disk"
