"""A group chat without a server of its own: every member tells every other one, and drops files.

python examples/group_chat.py RELAY-URL KEY-FILE FOLDER GUID...

The GUIDs are those of the other members. Each line of standard input goes to all of them;
`/drop FILE` gives them a file, which arrives in their FOLDER. What a member says reaches every
other one exactly once and in order, whatever happens to the relay and to paths: a session that was
lost brings its messages back, and they go into the next one. A member that has ended is waited for.
"""

import asyncio
import itertools
import os
import sys
from collections import deque
from pathlib import Path

import msgspec

from peers import UNKNOWN, Identity, Peer, RoamRelayError, Session, SessionLost
from peers.cli.file_transfer import receive_file, send_file
from peers.cli.parts import Parts

PAUSE = 0.5
"""Seconds before the next attempt, where there is nobody to ask: a relay that is restarted."""


class Said(msgspec.Struct, frozen=True):
    """One line of one member, numbered since its program began: what comes twice is known by it."""

    run: str
    number: int
    text: str


class Line:
    """What one member has to be told, and is told as long as both live."""

    def __init__(self, peer: Peer, member: str) -> None:
        self._peer = peer
        self._member = member
        self._waiting: deque[bytes] = deque()
        self._more = asyncio.Event()

    def tell(self, message: bytes) -> None:
        """Add a message."""
        self._waiting.append(message)
        self._more.set()

    async def keep(self) -> None:
        """Have a session with the member whenever that is possible."""
        while True:
            try:
                session = await self._peer.connect(self._member, "group", wait=True)
                await self._use(session)
            except RoamRelayError as error:
                print(f"# {self._member[:8]}: {error}", flush=True)
                await asyncio.sleep(PAUSE)

    async def _use(self, session: Session) -> None:
        sending = asyncio.create_task(self._send(session))
        try:
            async for _ in session:  # Nothing comes: it ends when the session does.
                pass
        except SessionLost as lost:
            self._waiting.extendleft(reversed(lost.messages))
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, session: Session) -> None:
        while True:
            while self._waiting:
                await session.send(self._waiting[0])
                self._waiting.popleft()
            self._more.clear()
            await self._more.wait()


class Member:
    """One member of the group."""

    def __init__(self, peer: Peer, others: list[str], folder: Path) -> None:
        self._peer = peer
        self._others = others
        self._parts = Parts(folder)
        self._lines = [Line(peer, guid) for guid in others]
        self._run = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self._heard: dict[tuple[str, str], int] = {}
        """The number of the last line, of each member and run."""

    async def chat(self, lines: asyncio.StreamReader) -> None:
        """Take part until the input ends."""
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._peer.serve("group", self._hear, allow=self._others)),
                tasks.create_task(self._peer.serve("drop", self._store, allow=self._others)),
                *(tasks.create_task(line.keep()) for line in self._lines),
                *(tasks.create_task(self._follow(guid)) for guid in self._others),
            ]
            print(f"# here as {self._peer.guid}", flush=True)
            while text := (await lines.readline()).decode().strip():
                if text.startswith("/drop "):
                    file = Path(text.removeprefix("/drop "))
                    background += [
                        tasks.create_task(self._drop(file, guid)) for guid in self._others
                    ]
                else:
                    self._say(text)
            for task in background:
                task.cancel()

    def _say(self, text: str) -> None:
        message = msgspec.json.encode(Said(self._run, next(self._numbers), text))
        for line in self._lines:
            line.tell(message)

    async def _hear(self, session: Session) -> None:
        async for message in session:
            said = msgspec.json.decode(message, type=Said)
            who = session.remote, said.run
            if said.number > self._heard.get(who, 0):
                self._heard[who] = said.number
                print(f"{session.remote[:8]} {said.text}", flush=True)

    async def _store(self, session: Session) -> None:
        stored = await receive_file(session, self._parts, lambda done, size: None)
        print(f"# {session.remote[:8]} dropped {stored.path.name} {stored.sha256}", flush=True)

    async def _drop(self, file: Path, guid: str) -> None:
        """Give one member a file; again, where something broke before it was stored."""
        while True:
            try:
                async with await self._peer.connect(guid, "drop", wait=True) as session:
                    await send_file(session, file, lambda done, size: None)
                print(f"# {guid[:8]} has {file.name}", flush=True)
                return
            except RoamRelayError as error:
                print(f"# {guid[:8]}: {error}", flush=True)
                await asyncio.sleep(PAUSE)

    async def _follow(self, guid: str) -> None:
        """Tell who is there. While there is no relay nobody knows."""
        async for presence in self._peer.watch(guid):
            if presence.state != UNKNOWN and not presence.moved:
                print(f"# {guid[:8]} is {presence.state}", flush=True)


async def main(relay: str, key: str, folder: str, *others: str) -> None:
    """Be a member until standard input ends."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Peer(Identity.load_or_create(key), relay) as peer:
        await Member(peer, list(others), Path(folder)).chat(lines)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
