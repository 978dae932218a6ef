"""The first steps, as README and docs/commands.md show them: each line is run as it stands there,
but for the port, which may be taken, and what `make installed` tries instead (`pip install`)."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import at_home, plain_relay, stop

ROOT = Path(__file__).parents[2]
AT = "http://127.0.0.1:8440"
"""Where README's relay listens."""
PATIENCE = 300.0
"""Seconds: several programs start at once, perhaps on a busy machine. Nothing here is slow."""


def lines_of(page: str, title: str) -> list[str]:
    """Return the lines of the first block of commands below a title."""
    section = (ROOT / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    fenced = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    if fenced is not None:
        return fenced[1].splitlines()
    block = re.search(r"(?:^(?:    .*)?\n)+", section[section.index("\n    ") + 1 :], re.MULTILINE)
    assert block is not None
    return [line.strip() for line in block[0].splitlines() if line.strip()]


class Home:
    """A user with a home of their own, at a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = at_home(folder) | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "XDG_RUNTIME_DIR": str(folder),
        }

    @contextlib.contextmanager
    def types(self, line: str) -> Iterator[subprocess.Popen[str]]:
        """Have a shell run a line while inside."""
        process = subprocess.Popen(
            ["sh", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            stop(process)


@pytest.fixture
def home() -> Iterator[Home]:
    # Not pytest's own folder, below which a socket's name may be too long.
    with tempfile.TemporaryDirectory(prefix="home-") as folder:
        yield Home(Path(folder))


def says(process: subprocess.Popen[str], what: str) -> None:
    """Wait until a process has said something to people."""
    assert process.stderr is not None
    for line in process.stderr:
        if what in line:
            return
    raise AssertionError(f"it never said {what!r}")


def test_the_first_steps_of_the_readme(home: Home) -> None:
    install, serve, listen, connect = lines_of("README.md", "Use it")
    assert (install, serve) == ("pip install .", "relay serve")
    assert listen.count(AT) == connect.count(AT) == 1
    with plain_relay(home.folder) as (url, _), home.types(listen.replace(AT, url)) as alice:
        says(alice, "listening")
        with home.types(connect.replace(AT, url)) as bob:
            out, errors = bob.communicate("hello\n", timeout=PATIENCE)
            assert (bob.returncode, out) == (0, ""), errors
        assert alice.stdout is not None
        assert alice.stdout.readline() == "hello\n"


def test_the_lines_that_ask_a_command_how_its_peer_is(home: Home) -> None:
    listen, status = lines_of("docs/commands.md", "How a command's peer is")
    assert listen.endswith(" &")
    with plain_relay(home.folder) as (url, _):
        home.environment["PEER_RELAY"] = url
        with home.types(listen.removesuffix(" &")) as listening:
            says(listening, "listening")
            with home.types(status) as asking:
                out, errors = asking.communicate(timeout=PATIENCE)
                assert asking.returncode == 0, errors
            for one in ("registered", url, "services   chat"):
                assert one in out
