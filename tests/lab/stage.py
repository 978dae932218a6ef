"""The draft's network with its programs running: what every scene is played on.

The scenes are in tests/lab/scenes.py; here is what they have in common, and the results they leave.
"""

import contextlib
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.lab.draft import SERVER, Draft, Links, draft, six
from tests.lab.programs import Commands, Program
from tests.lab.traffic import Result, Traffic

__all__ = ["RESULTS", "Audience", "Row", "Stage", "Talk", "keys_folder", "stage", "talking"]


@dataclass(frozen=True)
class Row:
    """A result with its name, for a table."""

    scene: str
    mode: str
    result: Result
    round_trip: float | None = None
    """Seconds between the two peers; None where no link has a delay."""


RESULTS: list[Row] = []
"""All that was measured in this process."""


class Audience(Protocol):
    """Who is told what happens."""

    def begins(self, lab: Draft) -> None:
        """The network is there."""

    def say(self, text: str) -> None:
        """Something happens now."""


class _Nobody:
    def begins(self, lab: Draft) -> None: ...

    def say(self, text: str) -> None: ...


class Talk(Traffic):
    """A caller whose numbered lines a peer echoes."""

    def __init__(self, program: Program, mode: str, interval: float) -> None:
        super().__init__(program, program, program.host, interval)
        self.program = program
        self.mode = mode
        self.connecting = time.monotonic() - program.began
        """Seconds from the program's start to its session: what the machine makes of it now."""


@contextlib.contextmanager
def talking(program: Program, mode: str, interval: float = 0.005) -> Iterator[Talk]:
    """Converse over a calling program once it is connected; it is closed afterwards."""
    with contextlib.closing(program):
        program.until("connected", program.errors)
        with contextlib.closing(Talk(program, mode, interval)) as talk:
            talk.begin()
            yield talk


class Stage:
    """A lab with a relay on the server and a peer on MN1 that echoes."""

    def __init__(
        self,
        lab: Draft,
        commands: Commands,
        relay: Program,
        guid: str,
        *,
        server: str,
        audience: Audience,
    ) -> None:
        self.lab = lab
        self.net = lab.net
        self.relay = relay
        self.guid = guid
        self.server = server
        self.say = audience.say
        self._commands = commands

    @contextlib.contextmanager
    def talk(
        self, name: str, mode: str, interval: float = 0.005, policy: str = ""
    ) -> Iterator[Talk]:
        """Let a host call MN1; yield the conversation once it flows."""
        program = self._commands.connect(self.net[name], self.guid, mode, policy)
        with talking(program, mode, interval) as talk:
            yield talk

    def command(self, name: str, *words: str) -> str:
        """Return the shell command that runs `peer` with these words in a host."""
        program = [sys.executable, "-m", *self._commands.peer(f"{name}-shell", *words)]
        return shlex.join(self.net[name].command(*program))

    def locate(self, name: str) -> list[dict[str, Any]]:
        """Return the endpoints of MN1 as `peer locate` shows them in a host."""
        return list(self._commands.locate(self.net[name], self.guid)["endpoints"])

    def explain(self, name: str, mode: str) -> str:
        """Return what a session that a host opens now says of its path."""
        return self._commands.explain(self.net[name], self.guid, mode)

    def finish(self, talk: Talk, scene: str, round_trip: float | None = None) -> Result:
        """End a conversation, keep its result, and see that nothing was lost, doubled or
        reordered."""
        result = talk.finish()
        RESULTS.append(Row(scene, talk.mode, result, round_trip))
        assert result.whole, f"{scene}, {talk.mode}: {result}"
        return result


@contextlib.contextmanager
def keys_folder() -> Iterator[Path]:
    """Make a folder for keys. A process of its own makes it and removes it, which outlives this one
    by that: so an interrupt leaves none, whenever it comes."""
    folder = Path(tempfile.gettempdir()) / f"lab-{secrets.token_hex(4)}"
    script = 'trap "" INT; mkdir -m 700 "$0" || exit; echo; cat >/dev/null; rm -rf "$0"'
    keeper = subprocess.Popen(
        ["sh", "-c", script, os.fspath(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert keeper.stdout is not None
        if not keeper.stdout.readline():
            raise FileExistsError(folder)
        yield folder
    finally:
        keeper.communicate(timeout=30)


@contextlib.contextmanager
def stage(
    *, links: Links | None = None, versions: Sequence[int] = (4,), audience: Audience | None = None
) -> Iterator[Stage]:
    """Build the network and start the programs; nothing of it is left afterwards.

    Raises:
        LabUnavailable: this machine cannot.
    """
    audience = audience or _Nobody()
    server = SERVER if 4 in versions else six(SERVER)
    with draft(links, versions) as lab, keys_folder() as folder:
        audience.begins(lab)
        commands = Commands(folder, server)
        with (
            commands.relay(lab.net["server"]) as relay,
            commands.listen(lab.net["mn1"], "--echo") as (guid, _),
        ):
            yield Stage(lab, commands, relay, guid, server=server, audience=audience)
