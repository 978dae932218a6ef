"""`peer --control PATH`: a UNIX socket, for its owner alone, at which `peer status` asks how a
command's peer is.

One line is asked and one answered, in JSON. Nothing can be changed there.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from peers import Peer
from peers.cli.invocation import Work
from peers.cli.standing import Standing, standing
from peers.cli.terminal import Terminal
from peers.config import ConfigError, log
from peers.tasks import Tasks
from protocol.errors import RoamRelayError

__all__ = ["NotControlled", "ask", "controlled"]

_LONGEST = 1_024
"""Bytes of what is asked."""
_LONGEST_ANSWER = 8 << 20
_IDLE = 10.0
"""Seconds for the question to come, and for the answer to be taken."""
_MAX_OPEN = 8
"""Conversations at once; one more is closed at once."""
_LONGEST_PATH = 107
"""Bytes of a path that a UNIX socket can have."""


class NotControlled(RoamRelayError):
    """No command's peer can be asked at a path. Says the next step."""


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    ask: str


class _Failed(msgspec.Struct, frozen=True, tag_field="answer", tag="failed"):
    reason: str


class _Shown(msgspec.Struct, frozen=True, tag_field="answer", tag="status"):
    peer: Standing


_read_question = msgspec.json.Decoder(_Asked).decode
_read_answer: Callable[[bytes], _Shown | _Failed] = msgspec.json.Decoder(_Shown | _Failed).decode


def controlled(work: Work, path: str, peers: Sequence[Peer]) -> Work:
    """Return a command's work, beside which its peer, the last of these, can be asked."""

    async def both(terminal: Terminal) -> None:
        async with _door(path, peers):
            await work(terminal)

    return both


async def ask(path: str) -> Standing:
    """Ask the peer of the command that has a path.

    Raises:
        NotControlled: nobody listens there, or this user may not ask, or there is no peer yet.
    """
    try:
        async with asyncio.timeout(_IDLE):
            reader, writer = await asyncio.open_unix_connection(path, limit=_LONGEST_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotControlled(
            f"nobody listens at {path}: start a command with 'peer --control {path} listen …'"
        ) from None
    except PermissionError:
        raise NotControlled(f"only the user who runs the command at {path} may ask it") from None
    except (OSError, TimeoutError) as error:
        raise NotControlled(f"cannot ask at {path}: {error or 'no answer'}") from None
    try:
        async with asyncio.timeout(_IDLE):
            writer.write(msgspec.json.encode(_Asked("status")) + b"\n")
            await writer.drain()
            answer = _read_answer(await reader.readline())
    except (OSError, TimeoutError, ValueError) as error:
        raise NotControlled(f"no answer at {path}: {str(error) or 'too late'}") from None
    finally:
        writer.transport.abort()
    if isinstance(answer, _Failed):
        raise NotControlled(answer.reason)
    return answer.peer


@contextlib.asynccontextmanager
async def _door(path: str, peers: Sequence[Peer]) -> AsyncIterator[None]:
    """Answer at a path while inside; nothing is left there afterwards.

    Raises:
        ConfigError: it cannot listen there, or another command does.
    """
    listening = await _bound(path)
    tasks = Tasks()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(tasks) >= _MAX_OPEN:
            writer.transport.abort()
        else:
            # It holds the writer, which must not be collected before its transport is closed.
            tasks.spawn(_serve(reader, writer, peers), lambda _: writer.transport.abort())

    try:
        ours = os.stat(path)
        server = await asyncio.start_unix_server(accept, sock=listening, limit=_LONGEST)
    except BaseException:
        listening.close()
        raise
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(OSError):
            # Somebody may have put another one there meanwhile.
            if os.path.samestat(os.stat(path), ours):
                os.unlink(path)
        await tasks.close()


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peers: Sequence[Peer]
) -> None:
    try:
        async with asyncio.timeout(_IDLE):
            line = await reader.readline()
        if line:
            writer.write(msgspec.json.encode(_answer(line, peers)) + b"\n")
            async with asyncio.timeout(_IDLE):
                await writer.drain()
    except (TimeoutError, OSError, ValueError) as error:
        # It has gone, says nothing, or says too much at once.
        log.debug("a question at the control socket was not answered", reason=str(error))
    finally:
        writer.close()


def _answer(line: bytes, peers: Sequence[Peer]) -> _Shown | _Failed:
    try:
        asked = _read_question(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _Failed(f"this version does not understand that: {error}")
    if asked.ask != "status":
        return _Failed(f"this version does not know {asked.ask[:80]!r}")
    if not peers:
        return _Failed("the command has no peer yet: ask again in a moment")
    return _Shown(standing(peers[-1]))


async def _bound(path: str) -> socket.socket:
    """Bind, and only then listen: nobody gets in before the permissions are what they must be."""
    if not hasattr(socket, "AF_UNIX") or not hasattr(asyncio, "start_unix_server"):
        raise ConfigError("--control: this system has no UNIX sockets")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"--control: {path} is longer than the {_LONGEST_PATH} bytes of a UNIX socket's name"
        )
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        await _take_away_what_was_left(path)
        one.bind(path)
        os.chmod(path, 0o600)
        one.listen(_MAX_OPEN)
    except OSError as error:
        one.close()
        raise ConfigError(f"--control: cannot listen at {path}: {error.strerror}") from None
    except BaseException:
        one.close()
        raise
    return one


async def _take_away_what_was_left(path: str) -> None:
    """Remove a socket at which nobody listens any more, as after a kill.

    Raises:
        ConfigError: somebody does, or it is no socket.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"--control: {path} is there, and no socket: it is left as it is")
    try:
        async with asyncio.timeout(_IDLE):
            _, writer = await asyncio.open_unix_connection(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except TimeoutError:
        raise ConfigError(f"--control: another command listens at {path}, and hangs") from None
    else:
        writer.transport.abort()
        raise ConfigError(f"--control: another command listens at {path}: name another one")
