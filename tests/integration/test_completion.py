"""Both commands complete their words in a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("command", "typed", "offered"),
    [
        ("peer", "ping --mode c", {"central", "combined"}),
        ("relay", "ba", {"backup", "ban", "bans"}),
    ],
)
def test_bash_completes(command: str, typed: str, offered: set[str]) -> None:
    words = [command, *typed.split()]
    program = (
        f'eval "$({command} completion bash)"\n'
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
        f"_{command}_completion {command}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", program],
        text=True,
        capture_output=True,
        timeout=60,
        env=environment() | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == offered
