"""The process that runs the others: starts them, keeps them running, and ends with them.

No peer is served here. Whatever ends this one ends the others too (`leash.py`).
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import assert_never

import msgspec

from protocol.extras import needed
from protocol.identity import Identity
from relay import disk
from relay.admission import Book
from relay.config import KEY, ConfigError, RelayConfig
from relay.listening import Bound, reserve
from relay.log import configure, guarded, log
from relay.nodes import nats
from relay.nodes.child import Child
from relay.nodes.desk import NodesDesk
from relay.nodes.division import Place, assignment, check_shared, names_of, reloaded
from relay.nodes.front import AdminFront
from relay.nodes.reports import Alive, Serving, Stuck, Unable, read
from relay.nodes.revival import Revival
from relay.operator import LocalDoor
from relay.server import BOOK
from relay.succession import take_folder
from relay.systemd import Systemd

__all__ = ["Program", "Supervisor"]

_HANGS = 20.0
"""Seconds without a sign of life after which a process is killed, and started anew."""
_LOOKING = 1.0
"""Seconds between two looks whether there is room for the nats-server."""
_FOLDER, _NATS, _SOCKET = "nodes", "nats", "operator.sock"
_ENDING = 15.0
"""Seconds for a process to end, beside those for which planes may go on."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Program:
    """What the command is to a supervisor."""

    command: Sequence[str]
    """That of one process."""
    anew: Callable[[], RelayConfig]
    """Reads the configuration again."""
    ready: Callable[[Sequence[str]], None]
    """Told where the relay serves, once all do."""
    systemd: Systemd


class Supervisor:
    """Several processes that are one relay. `serve` runs them until SIGTERM or SIGINT."""

    def __init__(
        self, config: RelayConfig, identity: Identity, count: int, program: Program
    ) -> None:
        self._config = config
        self._identity = identity
        self._program = program
        self._names = names_of(count)
        self._children: dict[str, Child] = {}
        self._serving: dict[str, tuple[int | None, Serving]] = {}
        """What each has said that serves, or did, and which process that was."""
        self._changed = asyncio.Event()
        self._stuck = asyncio.Event()
        """The nats-server keeps nothing."""
        self._stop = asyncio.Event()
        self._failure = ""
        self._is_ready = False

    async def serve(self) -> None:
        """Serve until told to stop, drain, and return when all have ended.

        Raises:
            ConfigError: they cannot serve.
            MissingExtra: what runs between them is not installed.
        """
        if sys.platform != "linux":
            raise ConfigError("nodes: several processes share one port on Linux alone")
        check_shared(self._config)
        with needed("cluster", "several processes as one relay"):
            import relay.cluster  # noqa: F401
        async with contextlib.AsyncExitStack() as stack:
            await self._run(stack)
        if self._failure:
            raise ConfigError(self._failure)
        log.info("stopped")

    # -- inside ---------------------------------------------------------------------------------

    async def _run(self, stack: contextlib.AsyncExitStack) -> None:
        config = self._config
        folder = config.state or stack.enter_context(
            tempfile.TemporaryDirectory(prefix="roam-relay-")
        )
        await take_folder(stack.enter_context(contextlib.ExitStack()), folder)
        shared = str(Path(folder, _FOLDER))
        for name in ("", _NATS, *self._names):
            _make_folder(Path(shared, name))
        book = str(Path(folder, BOOK).resolve())
        await _make_book(book)
        bound = await reserve(config.hosts, config.port)
        stack.callback(bound.close)
        zone = await self._reserve_zone()
        if zone is not None:
            stack.callback(zone.close)
        held = nats.hold_port()
        stack.callback(held.close)
        place = Place(
            shared,
            self._key_file(shared),
            book,
            bound.port,
            0 if zone is None else zone.port,
            nats.prepare(
                str(Path(shared, _NATS)),
                held.getsockname()[1],
                keeps=config.keeps_letters or config.dns is not None,
            ),
            len(self._names),
            os.urandom(32),
        )
        between = self._make(place)
        front = AdminFront(config, self._names, self._here)
        stack.push_async_callback(front.close)
        await front.open()
        if config.state is not None and config.operator_socket:
            sockets = {name: str(Path(shared, name, _SOCKET)) for name in self._names}
            desk = NodesDesk(sockets, config.state, front.urls, self._stop.set)
            door = LocalDoor(config.in_state(config.operator_socket), desk)
            stack.push_async_callback(door.close)
            await door.open()
        await self._keep(place, between, front)

    async def _reserve_zone(self) -> Bound | None:
        dns = self._config.dns
        if dns is None:
            return None
        try:
            return await reserve(dns.hosts or self._config.hosts, dns.port, udp=True)
        except ConfigError as error:
            raise ConfigError(f"dns: {error}") from None

    def _make(self, place: Place) -> Child:
        """Make the nodes, and return what is between them."""
        for name in self._names:
            word = self._word(name, place)
            told = partial(self._told, name)
            self._children[name] = Child(name, self._program.command, word, told, _HANGS)
        command = nats.command(str(Path(place.folder, _NATS)))
        return Child(_NATS, command, b"", lambda line: None, 0.0)

    async def _keep(self, place: Place, between: Child, front: AdminFront) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        keeping = {
            child.name: loop.create_task(child.keep())
            for child in (between, *self._children.values())
        }
        alive = loop.create_task(self._program.systemd.keep_alive())
        reviving = loop.create_task(self._revive(between, str(Path(place.folder, _NATS))))
        try:
            await self._become_ready(front, keeping)
            loop.add_signal_handler(signal.SIGHUP, self._reload, place, front)
            await self._until_stopped(keeping)
            self._program.systemd.stopping(self._config.drain_timeout)
            log.info("draining")
            for child in self._children.values():
                child.stop()
            nodes = [keeping[name] for name in self._children]
            await asyncio.wait(nodes, timeout=self._config.drain_timeout + _ENDING)
        finally:
            alive.cancel()
            reviving.cancel()
            for child in (*self._children.values(), between):
                child.stop(signal.SIGKILL)
            # No timeout: they were killed.
            await asyncio.gather(*keeping.values(), return_exceptions=True)

    async def _become_ready(
        self, front: AdminFront, keeping: Mapping[str, "asyncio.Task[None]"]
    ) -> None:
        """Wait until all serve for the first time, and say so; or until the end. No timeout: each
        says that it serves, or dies, and is started anew until told to stop."""
        while len(self._serving) < len(self._names) and not self._stop.is_set():
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait((changed, *keeping.values()), return_when=FIRST_COMPLETED)
            changed.cancel()
            if any(task.done() for task in keeping.values()):
                return
        if self._stop.is_set():
            return
        self._is_ready = True
        urls = next(iter(self._serving.values()))[1].urls
        more = {}
        if front.urls:
            more = {"admin": " ".join(front.urls), "dashboard": f"{front.urls[0]}/"}
        log.info(
            "all nodes serve",
            url=" ".join(urls),
            relay=self._identity.guid,
            nodes=len(self._names),
            **more,
        )
        self._program.ready(urls)
        self._program.systemd.ready(self._status(urls))

    async def _until_stopped(self, keeping: Mapping[str, "asyncio.Task[None]"]) -> None:
        """Wait for the end. No timeout: a relay serves until it is told to stop."""
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((stopped, *keeping.values()), return_when=FIRST_COMPLETED)
        stopped.cancel()
        for task in keeping.values():
            if task.done():
                task.result()  # What nobody expected ends it all.

    async def _revive(self, between: Child, folder: str) -> None:
        """Start the nats-server anew where it keeps nothing though there is room: one that has met
        a full disk goes on so for ever. No timeout: as long as it runs."""
        revival, is_said = Revival(), False
        while True:
            await self._stuck.wait()
            with guarded("looking for room for the nats-server"):
                if revival.may_begin(monotonic()):
                    if await asyncio.to_thread(nats.has_room, folder):
                        log.warning("the nats-server keeps nothing more, and is started anew")
                        revival.begun(monotonic())
                        between.start_anew()
                        is_said = False
                    elif not is_said:
                        is_said = True
                        log.error("the nats-server keeps nothing more: its disk is full", at=folder)
            await asyncio.sleep(_LOOKING)
            self._stuck.clear()  # They say it again.

    def _told(self, name: str, line: bytes) -> None:
        try:
            report = read(line)
        except ValueError:
            log.warning("a process says what is not understood", process=name)
            return
        match report:
            case Serving():
                self._serving[name] = self._children[name].pid, report
                self._changed.set()
            case Unable(reason) if not self._is_ready:
                self._failure = self._failure or reason
                self._stop.set()
                self._changed.set()
            case Unable(reason):
                log.error("a node cannot serve", process=name, reason=reason)
            case Alive():
                pass
            case Stuck():
                self._stuck.set()
            case _:
                assert_never(report)

    def _here(self) -> dict[str, str]:
        """Return where the processes that serve now are asked for their metrics."""
        return {
            name: serving.admin_urls[0]
            for name, (pid, serving) in self._serving.items()
            if pid is not None and pid == self._children[name].pid
        }

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            os._exit(128 + number)  # The others end with it.
        self._stop.set()
        self._changed.set()

    def _reload(self, place: Place, front: AdminFront) -> None:
        self._program.systemd.reloading()
        urls = next(iter(self._serving.values()))[1].urls
        try:
            config, later = reloaded(self._config, self._program.anew())
            front.reload(config)
        except ConfigError as error:
            log.error("not reloaded: all is as it was", reason=str(error))
            return
        finally:
            self._program.systemd.ready(self._status(urls))
        self._config = config
        for name, child in self._children.items():
            child.tell(self._word(name, place))
        configure(config.log_format, config.log_level, "supervisor")
        log.info("all nodes were told to reload")
        if later:
            log.warning("what has changed here needs a restart", keys=list(later))

    def _word(self, name: str, place: Place) -> bytes:
        return _encode(assignment(self._config, name, place)) + b"\n"

    def _status(self, urls: Sequence[str]) -> str:
        return f"{self._identity.guid} at {' '.join(urls)}, {len(self._names)} nodes"

    def _key_file(self, folder: str) -> str:
        if self._config.identity is not None:
            return str(Path(self._config.in_state(self._config.identity)).resolve())
        file = Path(folder, KEY)
        disk.make(file, self._identity.to_pem())
        return str(file)


async def _make_book(file: str) -> None:
    """Bring the tables up to the version of now, before several processes open them at once."""
    book = Book(file, time)
    try:
        await book.open()
    finally:
        await book.close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"state: cannot make the folder {folder}: {error.strerror}") from None
