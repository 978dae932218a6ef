"""`make demo` is the first thing that a newcomer sees."""

import subprocess
import sys
from pathlib import Path

from tests.support.processes import environment


def test_the_demo_shows_every_mode() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[2] / "examples" / "demo.py")],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything arrived intact." in done.stdout
    for mode in ("p2p", "central", "combined", "auto"):
        assert mode in done.stdout
