"""A kill at every SQL statement leaves both stores whole."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support import processes, scale


def test_a_kill_at_any_statement_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """In the gate at every 79th, nightly at each of the four hundred."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.peers.conversations.killed"),
            *(str(tmp_path), "1", str(scale.of(79, 1))),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        env=processes.environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["statements"] > 300
    assert found["wrong"] == []
