"""What `peer listen`, `peer connect`, `peer watch` and `peer ping` do."""

import asyncio
import base64
import contextlib
import functools
import statistics
import time

from peers import UNKNOWN, Mode, RequestTimeout, Session, SessionClosed, SessionLost, Unsupported
from peers.cli.input import InputFailed, InputKind, LineTooLong
from peers.cli.sessions import MakePeer, closing, following, path_of, registered, serve_each
from peers.cli.terminal import Terminal
from peers.tasks import Tasks, unless

__all__ = ["LINGER", "connect", "listen", "ping", "watch"]

LINGER = 1.0
"""Seconds without a reply after which `connect` closes, once standard input has ended and all of it
has arrived, where the other side cannot be told of that end; and seconds without a line after which
`listen` ends its side of a session whose caller has finished."""
_STEPS = 4
"""How often in that time is looked whether something came."""
_NEXT_LINE = 0.25
"""Seconds for the next line when the other side has closed: whether there was more to send."""
_ECHO_WAIT = 10.0
"""Seconds for an echo."""


async def connect(
    terminal: Terminal,
    make_peer: MakePeer,
    guid: str,
    service: str,
    *,
    mode: str | None = None,
    policy: str | None = None,
    wait: bool = False,
    metadata: str = "",
    linger: float | None = None,
) -> None:
    """Lines of standard input out, messages in, until either side ends.

    Where there is nothing to send from (/dev/null, a closed descriptor) it only receives, until the
    other side closes. Else the other side is told of the end of the input, and ends the session
    when it has answered; or it ends when replies have come for `linger` seconds no more, where that
    is given, or where an older version cannot be told.

    Raises:
        SessionClosed: the other side has closed before all was sent.
        InputFailed, LineTooLong: the input cannot be sent. What came before has arrived.
        RoamRelayError: as `Peer.connect`.
    """
    async with make_peer() as peer:
        chosen = Mode(mode) if mode is not None else None
        word = metadata.encode(errors="surrogateescape")
        session = await peer.connect(
            guid, service, mode=chosen, policy=policy, wait=wait, metadata=word
        )
        where = path_of(session)
        await terminal.tell(
            f"connected: {session.mode.value}, {where}",
            event="connected",
            remote=session.remote,
            mode=session.mode.value,
            path=where,
        )
        async with (
            closing(session),
            following(session, terminal, lambda where: terminal.notice(f"now: {where}")),
        ):
            conversation = _Conversation(session, terminal)
            if terminal.input.kind is InputKind.NONE:
                terminal.ends_unread()
                await conversation.print_all()
            else:
                await conversation.both_ways(linger)


class _Conversation:
    """Both directions of one session: lines to messages, messages to lines."""

    def __init__(self, session: Session, terminal: Terminal) -> None:
        self._session = session
        self._terminal = terminal
        self._heard = False
        self._has_unsent = False

    async def print_all(self) -> None:
        """Print what arrives until the other side has closed."""
        async for message in self._session:
            self._heard = True
            await self._terminal.message(message, self._session.remote)

    async def both_ways(self, linger: float | None) -> None:
        """Send and print until either side ends; return when all that arrived is printed."""
        printing = asyncio.ensure_future(self.print_all())
        sending = asyncio.ensure_future(self._send_all())
        try:
            # No timeout: how long people talk is not ours to decide.
            await asyncio.wait({printing, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                try:
                    sending.result()
                except (InputFailed, LineTooLong):
                    await self._session.close()
                    await printing
                    raise
                except SessionClosed:
                    pass  # The other side has closed; what it said before is printed first.
                else:
                    told = linger != 0 and await self._finish()
                    if not told or linger is not None:
                        await self._until_quiet(printing, LINGER if linger is None else linger)
                        await self._session.close()
            await printing
            # What is there already, and could not be sent, is met at once; more may never come.
            await asyncio.wait({sending}, timeout=_NEXT_LINE)
            if self._has_unsent:
                raise SessionClosed("the other side has closed before all was sent")
        finally:
            printing.cancel()
            sending.cancel()
            await asyncio.gather(printing, sending, return_exceptions=True)

    async def _send_all(self) -> None:
        while (line := await self._terminal.input.line()) is not None:
            self._has_unsent = True
            await self._session.send(line)
            self._has_unsent = False

    async def _finish(self) -> bool:
        """Tell the other side that all was sent; return whether it knows of such an end."""
        try:
            await self._session.finish()
        except Unsupported:
            return False
        return True

    async def _until_quiet(self, printing: "asyncio.Future[None]", linger: float) -> None:
        quiet = 0
        while quiet < _STEPS and linger and not printing.done():
            settled, self._heard = self._session.outstanding == 0, False
            await asyncio.wait({printing}, timeout=linger / _STEPS)
            quiet = quiet + 1 if settled and not self._heard else 0


def _metadata_of(session: Session) -> tuple[str, dict[str, str]]:
    """Return what the caller has said before its session began, for people and for programs."""
    data = session.metadata
    if not data:
        return "", {}
    try:
        return f" ({data.decode()})", {"metadata": data.decode()}
    except UnicodeDecodeError:
        encoded = base64.b64encode(data).decode()
        return f" ({data!r})", {"metadata_base64": encoded}


async def listen(
    terminal: Terminal,
    make_peer: MakePeer,
    service: str,
    *,
    allow: tuple[str, ...] | None = None,
    disclose: str = "anyone",
    echo: bool = False,
) -> None:
    """Print what arrives; echo it, or send lines of standard input to the last caller.

    It is a service: it goes on when its input has ended, and whatever one session does.
    """
    lines = _LinesToTheLast(terminal)

    async def serve(session: Session) -> None:
        lines.caller_came(session)
        text, fact = _metadata_of(session)
        await terminal.tell(
            f"session with {session.remote}: {path_of(session)}{text}",
            event="session",
            remote=session.remote,
            mode=session.mode,
            **fact,
        )
        async for message in session:
            if echo:
                await session.send(message)
            else:
                await terminal.message(message, session.remote)
        if not session.is_over:
            if not echo:
                await lines.answered(session)
            with contextlib.suppress(Unsupported):  # Such a side has closed, and not finished.
                await session.finish()

    async def ended(session: Session, reason: str) -> None:
        await terminal.tell(f"session ended: {reason}", event="ended", reason=reason)

    tasks = Tasks()
    async with registered(
        terminal, make_peer, lambda peer: peer.listen(service, allow=allow, disclose=disclose)
    ) as (peer, listener):
        try:
            await terminal.tell(
                f"listening for {service} as {peer.guid}",
                event="listening",
                guid=peer.guid,
                service=service,
            )
            if not echo:
                terminal.ends_unread()
                tasks.spawn(lines.send_all())
            await serve_each(listener, serve, ended)
        finally:
            await tasks.close()


class _LinesToTheLast:
    """Lines of standard input, each to whoever called last.

    Without a caller a line of a pipe or a file waits for one; what was typed is not kept for
    somebody whom the one who typed has not seen.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._last: Session | None = None
        self._changed = asyncio.Event()
        self._count = 0

    async def answered(self, session: Session) -> None:
        """Wait until no line has gone for a while to a caller that says nothing more."""
        before = -1
        while before != self._count and self._last is session and not session.is_over:
            before = self._count
            await asyncio.sleep(LINGER)

    def caller_came(self, session: Session) -> None:
        """From now on lines go to this one."""
        self._last = session
        self._changed.set()

    async def send_all(self) -> None:
        """Send until the input has ended. What cannot be sent, or read, is told."""
        while True:
            try:
                line = await self._terminal.input.line()
            except LineTooLong as error:
                self._terminal.notice(f"peer: {error}: it is not sent")
                continue
            except InputFailed as error:
                self._terminal.notice(f"peer: {error}")
                return
            if line is None:
                return
            await self._send(line)

    async def _send(self, line: bytes) -> None:
        while True:
            self._changed.clear()
            session = self._last
            if session is not None and not session.is_over:
                if await unless(self._changed, functools.partial(_sent, session, line)):
                    self._count += 1
                    return
            elif self._terminal.input.kind is InputKind.TERMINAL:
                self._terminal.notice("nobody is here: not sent")
                return
            else:
                # No timeout: when a caller comes is not ours to decide.
                await self._changed.wait()


async def _sent(session: Session, line: bytes) -> bool:
    try:
        await session.send(line)
    except (SessionClosed, SessionLost):
        return False
    return True


async def watch(terminal: Terminal, make_peer: MakePeer, guid: str) -> None:
    """Print how a peer stands, and every change, until Ctrl-C."""
    if terminal.as_json:
        terminal.ends_unread()
    async with make_peer() as peer, contextlib.aclosing(peer.watch(guid)) as presences:
        async for presence in presences:
            seen = presence.last_seen
            told = "" if seen is None else f", last seen {seen:.0f} s ago"
            if presence.state == UNKNOWN and not peer.status.is_registered:
                told = ": there is no relay now"
            await terminal.tell(
                f"{guid[:8]} has moved"
                if presence.moved
                else f"{guid[:8]} is {presence.state}{told}",
                event="presence",
                guid=guid,
                state=presence.state,
                last_seen=seen,
                moved=presence.moved,
            )


async def ping(
    terminal: Terminal,
    make_peer: MakePeer,
    guid: str,
    service: str,
    *,
    mode: str | Mode | None = None,
    count: int = 4,
) -> None:
    """Print round trips of messages that the other side echoes.

    Raises:
        RequestTimeout: it does not echo.
        RoamRelayError: as `Peer.connect`.
    """
    times = []
    async with make_peer() as peer:
        began = time.perf_counter()  # The loop's own clock has whole milliseconds.
        session = await peer.connect(guid, service, mode=Mode(mode) if mode is not None else None)
        setup = time.perf_counter() - began
        path = path_of(session)
        async with closing(session):
            for number in range(count):
                sent = time.perf_counter()
                await session.send(b"ping %d" % number)
                try:
                    async with asyncio.timeout(_ECHO_WAIT):
                        await session.receive()
                except TimeoutError:
                    raise RequestTimeout(
                        f"{service} does not echo: nothing came in {_ECHO_WAIT:g} s"
                    ) from None
                times.append(time.perf_counter() - sent)
    milliseconds = [time * 1000 for time in times]
    median = statistics.median(milliseconds)
    await terminal.tell(
        f"{count} round trips over {session.mode.value} ({path}): "
        f"min {min(milliseconds):.2f}, median {median:.2f}, max {max(milliseconds):.2f} ms; "
        f"setup {setup * 1000:.1f} ms",
        event="ping",
        mode=session.mode,
        path=path,
        setup=setup,
        round_trips=times,
    )
