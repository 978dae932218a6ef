"""An end of what is measured that is a process of its own: a module of the benchmarks, which is
told what to do by lines, and answers each with one."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["line_of", "running", "tell"]


@contextmanager
def running(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a module of the benchmarks until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that it says.

    Raises:
        RuntimeError: it has ended.
    """
    assert process.stdout is not None
    if not (line := process.stdout.readline().strip()):
        raise RuntimeError("an end of the sessions has ended")
    return line


def tell(process: subprocess.Popen[str], word: str) -> None:
    """Tell it something, and wait until it is done."""
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    line_of(process)
