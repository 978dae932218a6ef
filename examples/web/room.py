"""The room: who is in it, and what they say to one another.

Each member holds a session with the room's peer. Pages say and hear JSON; a terminal, which names
no metadata, says and hears lines. What one says, all hear. Files go from page to page, not by here.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

from peers import RoamRelayError, Session

__all__ = ["Room"]

MOST_MEMBERS = 200
MOST_OF_ONE = 4
"""Places that one key may have; for the next one its oldest goes: a page that was loaded anew."""
MOST_TEXT = 4096
"""Characters of what somebody says at once."""
MOST_WAITING = 256
"""Words that wait for one member: who does not read them has left."""


@dataclass(eq=False)
class Member:
    """Somebody in the room."""

    session: Session
    name: str
    is_page: bool
    has_path: bool = True
    words: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))

    def hear(self, said: dict[str, Any]) -> None:
        """Take one more word, in the form that this member understands."""
        if self.is_page:
            word = json.dumps(said)
        elif "say" in said:
            word = f"{said['name']}: {said['say']}"
        else:
            return
        try:
            self.words.put_nowait(word.encode())
        except asyncio.QueueFull:
            self.session.abort("too much is unread")


class Room:
    """`serve` is for `Peer.serve`, once for each session."""

    def __init__(self) -> None:
        self._members: list[Member] = []

    async def serve(self, session: Session) -> None:
        """Let somebody in, until they leave."""
        if len(self._members) >= MOST_MEMBERS:
            session.abort("the room is full")
            return
        places = [one.session for one in self._members if one.session.remote == session.remote]
        for oldest in places[: max(0, len(places) + 1 - MOST_OF_ONE)]:
            oldest.abort("you are here in too many places")
        name, is_page = _introduced(session)
        member = Member(session, name, is_page)
        self._members.append(member)
        self._tell_presence()
        tasks = [asyncio.ensure_future(one(member)) for one in (self._write, self._follow)]
        try:
            with contextlib.suppress(RoamRelayError):  # A session that is lost is a way to leave.
                async for message in session:
                    self._said(member, message)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._members.remove(member)
            self._tell_presence()

    def _said(self, member: Member, message: bytes) -> None:
        text = message.decode(errors="replace")
        if member.is_page:
            try:
                said = json.loads(text)
                text = said["say"] if isinstance(said["say"], str) else ""
            except (ValueError, KeyError, TypeError, RecursionError):
                return
        text = text.strip()[:MOST_TEXT]
        if text:
            word = {"say": text, "name": member.name, "guid": member.session.remote}
            for one in self._members:
                if one is not member or one.is_page:
                    one.hear(word)

    def _tell_presence(self) -> None:
        here = [
            {
                "guid": one.session.remote,
                "name": one.name,
                "page": one.is_page,
                "path": one.has_path,
            }
            for one in self._members
        ]
        for one in self._members:
            one.hear({"here": here})

    async def _write(self, member: Member) -> None:
        while True:
            await member.session.send(await member.words.get())

    async def _follow(self, member: Member) -> None:
        """Tell the others when somebody's network is gone, and when it is back."""
        async for event in member.session.events():
            has_path = event.path is not None
            if has_path is not member.has_path:
                member.has_path = has_path
                self._tell_presence()


def _introduced(session: Session) -> tuple[str, bool]:
    """Return what somebody wants to be called, and whether it is a page."""
    name = ""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        said = json.loads(session.metadata)
        name = said.get("name", "") if isinstance(said, dict) else ""
    shown = "".join(one for one in str(name)[:32] if one.isprintable()).strip()
    return shown or session.remote[:8], bool(session.metadata)
