"""How a relay that drains gives its ports and its state up to the next one that starts here.

While a relay drains it goes on listening, so that who asks is told that it drains; and it has its
files open. The next relay of the same user that finds a port or the folder taken asks for them, by
a name in Linux's abstract namespace that only a relay that drains has: one that serves is never
asked, so that who starts a second one by mistake is told so. Where there is no such namespace, or
somebody else has the name, `open` says so, and its caller has to let the ports go at once.
"""

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence

from relay.log import guarded, log
from relay.store import FolderTaken, state_folder
from relay.tasks import Tasks

__all__ = ["Succession", "has_given_way", "names", "port_name", "take_folder"]

_PATIENCE = 5.0
"""Seconds for a relay to give all up that it has."""
_GIVEN = b"given up\n"
_MAX_OPEN = 4
"""Who asks at once; one more is closed at once."""


def port_name(port: int) -> str:
    """Return what a port is asked for by."""
    return f"port/{port}"


def folder_name(folder: str) -> str:
    """Return what a folder is asked for by; it must be there."""
    found = os.stat(folder)
    return f"folder/{found.st_dev}-{found.st_ino}"


def names(ports: Iterable[int], folder: str | None) -> list[str]:
    """Return what all that is asked for by."""
    found = [port_name(port) for port in sorted(ports)]
    return found if folder is None else [*found, folder_name(folder)]


async def take_folder(stack: contextlib.ExitStack, folder: str) -> None:
    """Take a state folder until the stack is closed; also from a relay that drains.

    Raises:
        ConfigError: it cannot be had.
    """
    try:
        stack.enter_context(state_folder(folder))
    except FolderTaken:
        if not await has_given_way(folder_name(folder)):
            raise
        stack.enter_context(state_folder(folder))


class Succession:
    """What one relay that drains can be asked for. Call `open` first and `close` last."""

    def __init__(self, give_up: Callable[[], Awaitable[None]]) -> None:
        """`give_up` closes everything that the next relay needs; it is called once at most."""
        self._give_up = give_up
        self._given: asyncio.Task[None] | None = None
        self._servers: list[asyncio.Server] = []
        self._tasks = Tasks()

    @property
    def is_over(self) -> bool:
        """Whether the next relay has asked."""
        return self._given is not None

    async def open(self, names: Sequence[str]) -> bool:
        """Let these be asked for; return whether they can be. Else none of them is. Once is
        enough."""
        if self._servers:
            return True
        listening: list[socket.socket] = []
        try:
            for name in names:
                one = _socket()
                if one is None:
                    break
                listening.append(one)
                one.bind(_address(name))
                one.listen(_MAX_OPEN)
        except OSError as error:
            log.warning(
                "the relay cannot be asked to give way, and gives its ports up now: nobody is told "
                "that it drains",
                reason=error.strerror,
            )
        else:
            if len(listening) == len(names):
                for one in listening:
                    self._servers.append(await asyncio.start_unix_server(self._accept, sock=one))
                return True
        for one in listening:
            one.close()
        return False

    async def close(self) -> None:
        """Be asked no more. What is being given up is given up first."""
        for server in self._servers:
            server.close()
        if self._given is not None:
            await asyncio.wait([self._given])
        await self._tasks.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _MAX_OPEN or not _is_own_user(writer.get_extra_info("socket")):
            writer.transport.abort()
            return

        def ended() -> None:
            if not writer.is_closing():
                writer.transport.abort()

        self._tasks.spawn(self._answer(writer), ended)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        if self._given is None:
            log.info("the next relay has asked: it has the ports and the state from now on")
            self._given = asyncio.get_running_loop().create_task(self._give())
        # It must end by itself, as the end of a relay does: whoever asks has a timeout.
        await asyncio.shield(self._given)
        writer.write(_GIVEN)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await writer.drain()
        writer.close()

    async def _give(self) -> None:
        with guarded("giving up what the next relay needs"):
            await self._give_up()


async def has_given_way(name: str) -> bool:
    """Ask a relay that drains for what goes by a name; return whether it is free now. False where
    there is no such relay, or it does not answer."""
    one = _socket()
    if one is None:
        return False
    with one:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_PATIENCE):
                await loop.sock_connect(one, _address(name))
                if not _is_own_user(one):
                    return False
                # Where it ends before it has answered, all that it had is free too.
                await loop.sock_recv(one, len(_GIVEN))
        except (OSError, TimeoutError):
            return False
    log.info("a relay that drains has given way", name=name)
    return True


def _socket() -> socket.socket | None:
    if sys.platform != "linux":
        return None
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.setblocking(False)
    return one


def _address(name: str) -> str:
    return f"\0roam-relay/{os.geteuid()}/{name}"


def _is_own_user(one: socket.socket) -> bool:
    """Whether the same user, or the superuser, is at the other end."""
    if sys.platform != "linux":
        return False
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.geteuid())
