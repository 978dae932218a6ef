"""Nothing of the lab outlives its process, however that one ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.lab.__main__ import UNAVAILABLE
from tests.lab.hands_on import UP
from tests.lab.links import ROOT

DEADLINE = 60.0


def namespaces(pids: set[int]) -> set[str]:
    """Return the network namespaces of processes, as the kernel names them."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return found


def everybody() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def made_by(pid: int) -> set[Path]:
    """Return the folders that a lab has made: its children are told of them."""
    words = set()
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):  # One that has just ended.
            words.update(child.cmdline())
    return {Path(word) for word in words if Path(word).name.startswith("lab-")}


@contextmanager
def running(*arguments: str, until: str) -> Iterator[subprocess.Popen[str]]:
    """Run the lab as a process of its own until it says something."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.lab", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if until in line:
                break
        else:
            told = "".join(seen)
            if process.wait(DEADLINE) == UNAVAILABLE and not os.environ.get("LAB_REQUIRED"):
                pytest.skip(told.strip())
            raise AssertionError(told)
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE)
        process.stdout.close()


@pytest.mark.parametrize(
    ("playing", "ending"),
    [("figure", signal.SIGKILL), ("figure", signal.SIGINT), ("shell", signal.SIGTERM)],
)
def test_nothing_is_left(playing: str, ending: signal.Signals) -> None:
    arguments, until = {
        "shell": (("--shell",), UP),
        "figure": (("--no-pause", "--only", "figure-1"), "CN3 calls, and gets IP2"),
    }[playing]
    with running(*arguments, until=until) as process:
        folders = made_by(process.pid)
        assert len(folders) == 1
        children = psutil.Process(process.pid).children(recursive=True)
        made = namespaces({child.pid for child in children}) - namespaces({os.getpid()})
        assert len(made) >= 8, "a namespace for each host"
        process.send_signal(ending)
        code = process.wait(DEADLINE)
        assert code == (130 if ending is signal.SIGINT else -ending)
        _, alive = psutil.wait_procs(children, timeout=DEADLINE)
        assert not alive
        assert not any(folder.exists() for folder in folders)
        end = time.monotonic() + DEADLINE
        while left := made & namespaces(everybody()):
            assert time.monotonic() < end, left
            time.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="all of the lab is without root already")
def test_the_lab_works_without_root() -> None:
    # Somebody without any rights, who can still read the files that root can.
    unprivileged = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    able = subprocess.run(
        [*unprivileged, "unshare", "--user", "true"], timeout=DEADLINE, check=False
    )
    if able.returncode and not os.environ.get("LAB_REQUIRED"):
        pytest.skip("this kernel makes no user namespaces for users (user.max_user_namespaces)")
    done = subprocess.run(
        [*unprivileged, sys.executable, "-m", "tests.lab", "--no-pause", "--only", "figure-4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "has lost nothing" in done.stdout
