"""A short soak: nothing is left of peers that have come, talked, moved and gone in every way."""

import subprocess
import sys
from pathlib import Path

from tests.support.processes import environment
from tests.support.scale import of


def test_nothing_is_left() -> None:
    """In a process of its own: objects are counted, and other tests have left some."""
    size = {"peers": of(60, 300), "seconds": of(1, 300), "laps": of(2, 6), "seed": 1}
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *(f"--{name}={size[name]}" for name in size)],
        cwd=Path(__file__).parents[2],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=of(300, 1200),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
