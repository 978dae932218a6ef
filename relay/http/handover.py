"""A leg's connection that has come to another process of this machine than its plane is at is given
to that one, as a descriptor (SCM_RIGHTS): nothing of it was read, so that process serves it as if
it had come there, and its bytes take no detour.

What cannot be given (a connection under the relay's TLS, a WebSocket, a process that takes nothing
now) is led there (`relay.plane.Detours`). Who is given what, is in the folder that the processes
share, which is their user's alone.
"""

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from relay.config import RelayConfig, Siblings
from relay.log import guarded, log

__all__ = ["Handover"]

_SOCKET = "legs.sock"
_LONGEST_PATH = 107
"""Bytes of a path that a UNIX socket can have."""
_WORD = b"leg"
_AT_ONCE = 16
"""Connections that are taken in one turn of the loop."""

Take = Callable[[socket.socket], None]
"""Serves a connection as one that has just come."""


class Handover:
    """Of one process. `folder` is that of all, with one of its own for each, by its name."""

    def __init__(self, folder: str, node: str) -> None:
        self._folder = Path(folder)
        self._node = node
        self._socket: socket.socket | None = None

    @classmethod
    def of(cls, config: RelayConfig, siblings: Siblings | None) -> "Handover | None":
        """Return that of one of several processes of a machine; None for a relay that is one."""
        if siblings is None or siblings.folder is None or config.cluster is None:
            return None
        return cls(siblings.folder, config.cluster.node)

    def open(self, take: Take) -> None:
        """Take what others give. Where that cannot be, legs are led here, and the log says so."""
        path = str(self._path(self._node))
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if len(os.fsencode(path)) > _LONGEST_PATH:
                raise OSError(0, f"it is longer than {_LONGEST_PATH} bytes")
            one.setblocking(False)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            one.bind(path)
            os.chmod(path, 0o600)
        except OSError as error:
            one.close()
            log.warning("legs are led here, and not given", socket=path, reason=error.strerror)
            return
        self._socket = one
        asyncio.get_running_loop().add_reader(one, self._readable, one, take)

    def give(self, node: str, sock: socket.socket) -> bool:
        """Give a connection of which nothing was read to another process; return whether it is that
        one's now, and closed here."""
        if self._socket is None:
            return False
        try:
            # socket.send_fds passes over the address that it is given.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))
            self._socket.sendmsg([_WORD], [rights], 0, str(self._path(node)))
        except OSError:
            return False  # It has gone, or has enough to do.
        sock.close()
        return True

    def close(self) -> None:
        """Take nothing any more. What waits to be taken is reset: its peers come again."""
        one, self._socket = self._socket, None
        if one is None:
            return
        asyncio.get_running_loop().remove_reader(one)
        one.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path(self._node))

    # -- inside ---------------------------------------------------------------------------------

    def _path(self, node: str) -> Path:
        return self._folder / node / _SOCKET

    def _readable(self, one: socket.socket, take: Take) -> None:
        for _ in range(_AT_ONCE):
            try:
                word, descriptors, _, _ = socket.recv_fds(
                    one, len(_WORD) + 1, 4, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                log.warning("a leg that was given is lost", reason=error.strerror)
                return
            given = _sockets(descriptors)
            if word != _WORD or len(given) != 1:
                # Where this process has no descriptor left, the system has closed it.
                for sock in given:
                    sock.close()
                log.warning("a leg that was given is lost", reason="it did not come whole")
                continue
            with guarded("taking a leg that was given"):
                take(given[0])


def _sockets(descriptors: Iterable[int]) -> list[socket.socket]:
    """Return those of descriptors that are sockets; what else was given is closed."""
    found = []
    for number in descriptors:
        try:
            found.append(socket.socket(fileno=number))
        except OSError:
            os.close(number)
    return found
