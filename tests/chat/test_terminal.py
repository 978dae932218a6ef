"""The real program in a real terminal, which tmux keeps: started, used by keys, ended."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.chat.messenger import Messenger, Place
from tests.chat.world import LOOPBACK, eventually, relay_at
from tests.support import processes

pytestmark = pytest.mark.nightly

ROOT = Path(__file__).parents[2]


class Terminal:
    """One terminal of 100 columns and 30 lines."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")

    def run(self, *arguments: str) -> str:
        """Run a command of tmux."""
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments],
            text=True,
            capture_output=True,
            timeout=processes.DEADLINE,
            check=False,
            env=processes.environment() | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )
        return done.stdout

    def start(self, *command: str) -> None:
        """Run a program in it; the terminal stays when the program has ended."""
        line = f"cd {shlex.quote(str(ROOT))} && {shlex.join(command)}; echo ended with $?; exec cat"
        self.run("new-session", "-d", "-x", "100", "-y", "30", "sh", "-c", line)

    def press(self, *keys: str) -> None:
        """Press keys; a text is typed."""
        self.run("send-keys", *keys)

    def shows(self, text: str) -> bool:
        """Whether it shows this."""
        return text in self.run("capture-pane", "-p")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    print(terminal.run("capture-pane", "-p"))  # What it showed at the end, where a test fails.
    terminal.run("kill-server")


async def test_the_program_talks_from_a_terminal_and_ends(
    tmp_path: Path, terminal: Terminal
) -> None:
    place = Place(tmp_path / "bob", tmp_path / "downloads", LOOPBACK)
    async with relay_at(0) as relay, Messenger(place, relay.url, "Bob") as bob:
        state = tmp_path / "alice"
        flags = ("--relay", relay.url, "--name", "Alice", "--state", str(state))
        terminal.start(sys.executable, "-m", "examples.chat", *flags)
        await eventually(lambda: terminal.shows("Nobody is here yet"), pause=0.2)
        terminal.press("C-n")
        await eventually(lambda: terminal.shows("A friend's link"), pause=0.2)
        terminal.press("-l", bob.link.text)
        terminal.press("Enter")
        await eventually(lambda: terminal.shows("Bob: online"), pause=0.2)
        # The question lies over it a moment longer, and takes the keys.
        await eventually(lambda: not terminal.shows("A friend's link"), pause=0.2)
        terminal.press("-l", "hello from a terminal")
        terminal.press("Enter")
        await eventually(lambda: any(one.waiting for one in bob.listed), pause=0.2)
        (alice,) = bob.listed
        assert alice.waiting == "hello from a terminal"
        await eventually(lambda: terminal.shows("hello from a terminal  ✓ delivered"), pause=0.2)
        # What would clear the screen, and paint it red.
        await bob.write(alice, "\x1b[2J\x1b[41m[reverse]gone?[/]")
        await eventually(lambda: terminal.shows(r"\x1b[2J\x1b[41m[reverse]gone?[/]"), pause=0.2)
        assert terminal.shows("hello from a terminal")
        terminal.press("C-q")
        await eventually(lambda: terminal.shows("ended with 0"), pause=0.2)
        for file in ("chat.key", "chat.db"):
            assert os.stat(state / file).st_mode & 0o077 == 0
        assert os.stat(state).st_mode & 0o077 == 0
