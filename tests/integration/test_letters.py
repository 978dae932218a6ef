"""The letters of examples/: written while nobody reads, and read once."""

import subprocess
import sys
from pathlib import Path

from peers import Identity
from tests.support import processes
from tests.support.processes import DEADLINE

EXAMPLE = Path(__file__).parents[2] / "examples" / "letters.py"


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=processes.environment(),
    )


def test_letters_are_written_while_nobody_reads(tmp_path: Path) -> None:
    alice = Identity.load_or_create(tmp_path / "alice.key").guid
    with processes.relay(tmp_path) as (url, _):
        writer = start(tmp_path, url, "bob", "write", alice, "one", "two")
        reader = start(tmp_path, url, "alice", "read")
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline().strip() == alice
            said = [reader.stdout.readline().partition(": ")[2].strip() for _ in range(2)]
            assert said == ["one", "two"]
            out, _ = writer.communicate(timeout=DEADLINE)
            assert writer.returncode == 0
            assert [line.partition(":")[0] for line in out.splitlines()] == ["delivered"] * 2
        finally:
            for process in (writer, reader):
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
