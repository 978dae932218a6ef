"""The local door: a UNIX socket in the state folder, for its owner alone.

One object of JSON a line, one answer each. Whoever may open the socket is the operator, and is
named in the log by what the system says of it (SO_PEERCRED), not by its own word.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from relay.config import ConfigError
from relay.log import guarded, log
from relay.operator.commands import Answer, Asked, Failed, OperatorError
from relay.tasks import Tasks

__all__ = ["LocalDoor", "ask"]

_LONGEST = 8192
"""Bytes of what is asked."""
_LONGEST_ANSWER = 8 << 20
_IDLE = 10.0
"""Seconds for the next line, and for an answer to be taken."""
_MAX_OPEN = 16
"""Conversations at once; one more is closed at once."""
_LONGEST_PATH = 107
"""Bytes of a path that a UNIX socket can have."""

_read = msgspec.json.Decoder(Asked).decode
_read_answer: Callable[[bytes], Answer] = msgspec.json.Decoder(Answer).decode
_write = msgspec.json.Encoder().encode


class Desk(Protocol):
    """Where what is asked is done."""

    def turned_away(self) -> None:
        """Somebody could not be heard."""

    async def do(self, asked: Asked) -> Answer:
        """Do what is asked."""


class LocalDoor:
    """The local door of one relay. Call `open` first and `close` last."""

    def __init__(self, path: str, desk: Desk) -> None:
        self.path = path
        self._desk = desk
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. What an earlier relay has left at the path is removed: the caller holds the
        folder's lock.

        Raises:
            ConfigError: it cannot listen there.
        """
        if not hasattr(socket, "AF_UNIX") or not hasattr(asyncio, "start_unix_server"):
            log.warning("this system has no sockets for 'relay ban' and its like")
            return
        listening = _bound(self.path)
        try:
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listening, limit=_LONGEST
            )
        except BaseException:
            listening.close()
            raise

    async def close(self) -> None:
        """Stop listening, end what is open, and remove the socket."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            with guarded("removing the operator's socket"), contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        await self._tasks.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _MAX_OPEN:
            self._desk.turned_away()
            writer.transport.abort()
            return
        # It holds the writer, which must not be collected before its transport is closed.
        self._tasks.spawn(self._serve(reader, writer), lambda: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            who = _credentials(writer.get_extra_info("socket"))
            while True:
                async with asyncio.timeout(_IDLE):
                    line = await reader.readline()
                if not line:
                    return
                answer = await self._answer(line, who)
                writer.write(_write(answer) + b"\n")
                async with asyncio.timeout(_IDLE):
                    await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass  # It has gone, says nothing, or says too much at once.

    async def _answer(self, line: bytes, who: dict[str, int]) -> Answer:
        try:
            asked = _read(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Failed(f"this relay does not understand that: {error}")
        words = {
            name: value
            for name, value in msgspec.to_builtins(asked, builtin_types=(bytes,)).items()
            if name != "statement"
        }
        answer: Answer = Failed("the relay failed at this")
        with guarded("doing what the operator asks"):
            # Not given up half-way by who hangs up: the audit says what came of it.
            answer = await self._desk.do(asked)
        outcome: dict[str, Any] = {"outcome": type(answer).__name__.lower()}
        if isinstance(answer, Failed):
            outcome["why"] = answer.reason
        log.info("operator", **who, **words, **outcome)
        return answer


async def ask(path: str, asked: Asked) -> Answer:
    """Ask the relay that listens at a path.

    Raises:
        OperatorError: nobody listens there, or this user may not ask; says the next step.
    """
    try:
        async with asyncio.timeout(_IDLE):
            reader, writer = await asyncio.open_unix_connection(path, limit=_LONGEST_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError):
        raise OperatorError(
            f"no relay runs here: nobody listens at {path} (start one with 'relay serve' and the "
            "same 'state' folder, or name that folder with --config or --state)"
        ) from None
    except PermissionError:
        raise OperatorError(
            f"this user may not ask the relay at {path}: run the command as the user who runs the "
            "relay (sudo -u USER relay …)"
        ) from None
    except (OSError, TimeoutError) as error:
        raise OperatorError(f"cannot ask the relay at {path}: {error or 'no answer'}") from None
    try:
        writer.write(_write(asked) + b"\n")
        async with asyncio.timeout(3 * _IDLE):
            await writer.drain()
            line = await reader.readline()
        return _read_answer(line)
    except (OSError, TimeoutError, ValueError) as error:
        raise OperatorError(
            f"the relay at {path} gave no answer that can be used ({str(error) or 'too late'}): "
            "its log says what came of it"
        ) from None
    finally:
        writer.transport.abort()


def _bound(path: str) -> socket.socket:
    """Bind, and only then listen: nobody gets in before the permissions are what they must be."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"operator_socket: {path} is longer than the {_LONGEST_PATH} bytes that a UNIX socket "
            "may have: name a shorter one, also outside 'state'"
        )
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        one.bind(path)
        os.chmod(path, 0o600)
        one.listen(_MAX_OPEN)
    except BaseException as error:
        one.close()
        if isinstance(error, OSError):
            why = error.strerror or errno.errorcode.get(error.errno or 0, "")
            raise ConfigError(f"operator_socket: cannot listen at {path}: {why}") from None
        raise
    return one


def _credentials(one: Any) -> dict[str, int]:
    """Return who is at the other end, where the system says so."""
    if not hasattr(socket, "SO_PEERCRED"):
        return {}
    size = struct.calcsize("3i")
    pid, uid, gid = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return {"uid": uid, "gid": gid, "pid": pid}
