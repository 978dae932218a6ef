"""A whole run of the kit: against a peer, by a command that starts its adapter, or against a relay,
at a URL or by a command that starts it.
"""

import asyncio
import contextlib
import shlex
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from peers.conformance import (
    peer_admission,
    peer_calls,
    peer_control,
    peer_flights,
    peer_further,
    peer_locks,
    peer_moves,
    peer_pages,
    peer_paths,
    peer_requests,
    peer_session,
    peer_standby,
    relay_control,
    relay_http,
    relay_mailbox,
    relay_pages,
    relay_planes,
    relay_requests,
)
from peers.conformance.checks import Check, Result, order, run
from peers.conformance.faults import PATIENCE, Fault, set_patience
from peers.conformance.peer_stage import PEER, PeerStage
from peers.conformance.relay_stage import RELAY, RelayStage
from peers.conformance.report import Report
from protocol.errors import RoamRelayError

__all__ = ["CannotStart", "Wanted", "check_peer", "check_relay", "every_rule", "started_relay"]

SUBJECTS = (
    peer_control,
    peer_admission,
    peer_requests,
    peer_paths,
    peer_session,
    peer_moves,
    peer_standby,
    peer_flights,
    peer_calls,
    peer_further,
    peer_locks,
    peer_pages,
    relay_http,
    relay_control,
    relay_requests,
    relay_planes,
    relay_mailbox,
    relay_pages,
)
"""Where the checks are."""
_START = 20.0
"""Seconds for a relay to answer after its start, and to end."""
_AGAIN = 0.05
"""Seconds between two looks whether it does."""


class CannotStart(RoamRelayError):
    """What is to be checked does not start. Says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checks are made, and who hears of each as it ends."""

    rules: Collection[str] = ()
    """`R11.17`, or `R11` for a section; all where there is none."""
    slow: bool = False
    """Also those that take some seconds by themselves."""
    tell: Callable[[Result], None] = lambda result: None
    patience: float = PATIENCE
    """Seconds for what the other party must do at once."""


def every_rule() -> dict[str, list[Check[PeerStage] | Check[RelayStage]]]:
    """Return all checks of both kinds, by their rules."""
    found: dict[str, list[Check[PeerStage] | Check[RelayStage]]] = {}
    for one in PEER.all:
        found.setdefault(one.rule, []).append(one)
    for other in RELAY.all:
        found.setdefault(other.rule, []).append(other)
    return dict(sorted(found.items(), key=lambda item: order(item[0])))


async def check_peer(command: str, wanted: Wanted) -> Report:
    """Hold a peer to the rules; `command` starts its adapter (docs/conformance.md).

    Raises:
        CannotStart: there is no such rule, or the adapter does not start.
    """
    checks = PEER.chosen(wanted.rules, slow=wanted.slow)
    _some(checks, wanted)
    set_patience(wanted.patience)
    async with PeerStage(command) as stage:
        try:
            await stage.enter()
        except Fault as fault:
            raise CannotStart(str(fault)) from None
        return Report(tuple(await run(checks, stage.enter, wanted.tell)))


async def check_relay(url: str, wanted: Wanted) -> Report:
    """Hold a relay to the rules.

    Raises:
        CannotStart: there is no such rule, or nobody answers at the URL.
    """
    checks = RELAY.chosen(wanted.rules, slow=wanted.slow)
    _some(checks, wanted)
    set_patience(wanted.patience)
    try:
        stage = RelayStage(url)
        await stage.ask("/healthz")
    except Fault as fault:
        raise CannotStart(str(fault)) from None
    try:
        return Report(tuple(await run(checks, stage.enter, wanted.tell)))
    finally:
        await stage.enter()


def _some(checks: Collection[object], wanted: Wanted) -> None:
    if not checks:
        raise CannotStart(f"no check of {', '.join(wanted.rules)} here")


@asynccontextmanager
async def started_relay(command: str) -> AsyncIterator[str]:
    """Start a relay by a command in which `{port}` stands for the port at 127.0.0.1; give its URL,
    and end it.

    Raises:
        CannotStart: it does not answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [part.replace("{port}", str(port)) for part in shlex.split(command)]
    with tempfile.TemporaryFile() as log:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        except OSError as error:
            raise CannotStart(f"cannot start {arguments[0]!r}: {error.strerror}") from None
        try:
            url = f"http://127.0.0.1:{port}"
            if not await _answers(url, process):
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines()[-1:]
                raise CannotStart(f"{arguments[0]!r} does not serve: {''.join(said)}")
            yield url
        finally:
            await _end(process)


async def _answers(url: str, process: asyncio.subprocess.Process) -> bool:
    """Wait until a relay that was started answers; return False where it ends, or is late."""
    stage = RelayStage(url)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START):
            while process.returncode is None:
                with contextlib.suppress(Fault):
                    await stage.ask("/healthz")
                    await stage.enter()
                    return True
                await asyncio.sleep(_AGAIN)
    return False


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_START):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
