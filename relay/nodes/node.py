"""One of the processes: a relay that is told by its supervisor what it is, and ends with it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable

import msgspec

from protocol.errors import IdentityError, MissingExtra
from relay.config import ConfigError, RelayConfig
from relay.key_file import read_key
from relay.log import configure, log
from relay.nodes.division import Assignment
from relay.nodes.reports import Alive, Report, Serving, Stuck, Unable, write
from relay.rotation import read_former
from relay.server import RelayServer

__all__ = ["serve_node"]

_MAX_ASSIGNMENT = 1 << 26
_JOINING = 10.0
"""Seconds until it is in the cluster; one that is not serves all the same."""
_ALIVE = 1.0
"""Seconds between two signs of life."""

_decoder = msgspec.json.Decoder(Assignment)


async def serve_node(prepare: Callable[[RelayConfig], object]) -> None:
    """Serve as standard input says, until SIGTERM or its end. `prepare` sets the process up."""
    os.set_blocking(1, False)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_MAX_ASSIGNMENT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    # No timeout: the supervisor says it at once, or has ended.
    assigned = _decoder.decode(await reader.readline())
    config = assigned.config
    node = config.cluster.node if config.cluster is not None else ""
    configure(config.log_format, config.log_level, node)
    # From now on: a start may take longer than one that hangs is waited for.
    alive = loop.create_task(_live())
    try:
        prepare(config)
        file = config.identity or ""
        identity = read_key(file)
        server = RelayServer(
            config,
            identity,
            former=read_former(file, identity),
            siblings=assigned.siblings,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            # A second one changes nothing: the supervisor ends what takes too long.
            loop.add_signal_handler(number, server.drain_asked.set)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        async with server:
            await _serve(server, reader, node)
    except (ConfigError, IdentityError, MissingExtra) as error:
        _say(Unable(str(error)))
    finally:
        alive.cancel()
    log.info("stopped")


async def _serve(server: RelayServer, reader: asyncio.StreamReader, node: str) -> None:
    loop = asyncio.get_running_loop()
    following = loop.create_task(_follow(server, reader, node))
    watching = loop.create_task(_watch(server))
    try:
        await _joined(server)
        log.info("serving", url=" ".join(server.urls), relay=server.guid)
        _say(Serving(server.guid, server.urls, server.admin_urls))
        # No timeout: it serves until it is told to stop.
        await server.drain_asked.wait()
        log.info("draining", connections=len(server.connections))
        await server.drain()
    finally:
        following.cancel()
        watching.cancel()


async def _joined(server: RelayServer) -> None:
    cluster = server.cluster
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_JOINING):
            while cluster is not None and not cluster.is_in and not server.drain_asked.is_set():
                cluster.changed.clear()
                await cluster.changed.wait()


async def _follow(server: RelayServer, reader: asyncio.StreamReader, node: str) -> None:
    """Take over what the supervisor says later; end at once when it has ended."""
    while line := await reader.readline():
        try:
            later = server.reload(_decoder.decode(line).config)
        except ConfigError as error:
            log.error("not reloaded: all is as it was", reason=str(error))
            continue
        configure(server.config.log_format, server.config.log_level, node)
        log.info("reloaded")
        if later:
            log.warning("what has changed here needs a restart", keys=list(later))
    os._exit(1)


async def _watch(server: RelayServer) -> None:
    """Say so while NATS keeps nothing of what it is to keep. No timeout: as long as it serves."""
    before = False
    while server.cluster is not None:
        now = server.cluster.is_stuck
        if before and now:  # Twice: this process may have been away, and read the answer since.
            _say(Stuck())
        before = now
        await asyncio.sleep(_ALIVE)


async def _live() -> None:
    while True:
        _say(Alive())
        await asyncio.sleep(_ALIVE)


def _say(report: Report) -> None:
    # A supervisor that does not read is away itself; one that has ended takes this along.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(1, write(report))
