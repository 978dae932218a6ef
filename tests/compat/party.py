"""A party: peers of whichever version PYTHONPATH names, told what to do by lines of JSON.

A program of its own, the same file for every version: of the project it uses what `peers` exports
and nothing else. A line on standard input is a command, `{"id": …, "do": "send", …}`; its answer is
a line on standard output with the same `id` and one of `done`, `refused` (one of our errors) and
`broken` (anything else). Commands run side by side. The end of the input ends the program.
"""

import asyncio
import base64
import contextlib
import hashlib
import inspect
import json
import logging
import os
import socket
import stat
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import peers
from peers import (
    Carrier,
    Code,
    DdnsConfig,
    Identity,
    Listener,
    PathKind,
    Peer,
    PeerConfig,
    PeerState,
    RoamRelayError,
    Session,
    SessionClosed,
    SessionSettings,
)

_absent: set[str] = set()
"""Addresses that their host has not now: nobody can come in there."""


@dataclass(frozen=True)
class Address:
    """A loopback address, as a source of addresses tells it (peers.addresses.AddressSource)."""

    host: str
    interface: str = "lo"
    index: int = 1
    version: int = 4
    prefix_length: int = 8
    temporary: bool = False
    deprecated: bool = False
    tentative: bool = False
    link_local: bool = False
    loopback: bool = True


def own_sockets() -> Iterator[socket.socket]:
    """Yield this program's own TCP sockets (IPv4), whoever in it has opened them."""
    for number in map(int, os.listdir("/dev/fd")):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
        except OSError:  # The one with which the folder was listed.
            continue
        with socket.socket(fileno=os.dup(number)) as one:
            if (one.family, one.type) == (socket.AF_INET, socket.SOCK_STREAM):
                yield one


_accept = socket.socket.accept


def accept_where_present(listening: socket.socket) -> tuple[socket.socket, Any]:
    """Accept a connection, as a host does that has lost some of its addresses."""
    while True:
        connection, address = _accept(listening)
        if connection.family != socket.AF_INET or connection.getsockname()[0] not in _absent:
            return connection, address
        connection.close()


class Addresses:
    """A host's addresses, as the test wants them: of all that it may have, the first at first."""

    def __init__(self, every: list[str]) -> None:
        self._all = every
        self._changed = asyncio.Event()
        self.set(every[:1])

    def set(self, hosts: list[str]) -> None:
        """Have these from now on and no others."""
        _absent.update(set(self._all) - set(hosts))
        _absent.difference_update(hosts)
        self._hosts = hosts
        self._changed.set()

    async def read(self) -> tuple[Address, ...]:
        return tuple(Address(host) for host in self._hosts)

    async def changes(self) -> AsyncIterator[tuple[Address, ...]]:
        while True:
            self._changed.clear()
            yield await self.read()
            # The peer knows now. What it has left open, a handshake say, hears nothing more.
            for one in own_sockets():
                if one.getsockname()[0] in set(self._all) & _absent:
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
            await self._changed.wait()


@dataclass
class One:
    """A peer that is up."""

    peer: Peer
    addresses: Addresses
    accepting: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    ended: "asyncio.Queue[RoamRelayError | None]" = field(default_factory=asyncio.Queue)
    """How each of its services ended."""


@dataclass
class End:
    """One end of a session, and how many messages have gone each way."""

    session: Session
    sent: int = 0
    received: int = 0
    before: object = None
    """The path that it was on when it was last cut or moved."""


@dataclass
class Told:
    """What was told of a peer that is watched."""

    words: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


_BLOCK = hashlib.shake_128(b"the same in every version").digest(1 << 21)


def message(number: int, size: int) -> bytes:
    """Return a message that is like no other around it."""
    start = number * 64 % (1 << 20)
    return (number.to_bytes(8) + _BLOCK[start : start + size - 8])[:size]


def cut(session: Session) -> None:
    """Shut the connection down under a session's path, as a router does that has lost its state.

    Which of this program's sockets that is, the path's two addresses tell.
    """
    path = session.path
    assert path is not None, "there is no path to cut"
    wanted = [str(path.local), str(path.remote)]
    found = 0
    for one in own_sockets():
        with contextlib.suppress(OSError):  # Some have no other end.
            ends = one.getsockname(), one.getpeername()
            if [f"{host}:{port}" for host, port in ends] == wanted:
                one.shutdown(socket.SHUT_RDWR)
                found += 1
    assert found == 1, f"{found} sockets from {wanted[0]} to {wanted[1]}"


class Party:
    """The commands. What they return is the answer's `done`."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._peers: dict[str, One] = {}
        self._ends: dict[str, End] = {}
        self._arrived: dict[str, asyncio.Future[Session]] = {}
        self._watched: dict[str, Told] = {}

    async def where(self) -> Any:
        return {"peers": peers.__file__, "protocol": sys.modules["protocol"].__file__}

    async def crash(self) -> Any:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)

    # -- peers ----------------------------------------------------------------------------------

    async def open(
        self,
        peer: str,
        hosts: list[str],
        key: str,
        relay: str | None = None,
        carrier: str = "raw",
        services: dict[str, Any] | None = None,
        ddns: dict[str, Any] | None = None,
        session: dict[str, Any] | None = None,
        connect_timeout: float = 10.0,
    ) -> Any:
        """Open a peer: `hosts` are the addresses that it may have, `key` is its key file."""
        config = PeerConfig(
            relay=relay,
            ddns=DdnsConfig(**ddns) if ddns else None,
            carrier=Carrier(carrier),
            sources=tuple(hosts),
            listen_hosts=("0.0.0.0",),
            stagger=0.05,
            connect_timeout=connect_timeout,
            session=SessionSettings(**(session or {})),
        )
        addresses = Addresses(hosts)
        one = One(Peer(Identity.load_or_create(key), config=config, addresses=addresses), addresses)
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._keep(one, services or {}, up))
        await up
        self._peers[peer] = one
        return one.peer.guid

    async def _keep(self, one: One, services: dict[str, Any], up: asyncio.Future[None]) -> None:
        try:
            async with one.accepting, one.peer:
                for name, how in services.items():
                    self._listen(one, name, how)
                await one.peer.published()
                up.set_result(None)
                # No timeout: the test says when.
                await one.stop.wait()
        except* RoamRelayError as group:
            if up.done():
                raise
            up.set_exception(group.exceptions[0])
        finally:
            one.over.set()

    async def offer(self, peer: str, service: str) -> Any:
        """Offer one service more."""
        one = self._peers[peer]
        self._listen(one, service, {})
        await one.peer.published()

    def _listen(self, one: One, service: str, how: dict[str, Any]) -> None:
        how = dict(how)
        if "takes" in how:
            word = bytes.fromhex(how.pop("takes"))
            how["accept"] = lambda request: request.metadata == word or "not by that word"
        one.accepting.create_task(self._accept(one, one.peer.listen(service, **how)))

    async def _accept(self, one: One, listener: Listener) -> None:
        try:
            async for session in listener:
                self._arrival(session.id.hex()).set_result(session)
        except RoamRelayError as error:
            one.ended.put_nowait(error)
        else:
            one.ended.put_nowait(None)

    def _arrival(self, number: str) -> asyncio.Future[Session]:
        loop = asyncio.get_running_loop()
        return self._arrived.setdefault(number, loop.create_future())

    async def shut(self, peer: str) -> Any:
        """Close a peer."""
        one = self._peers.pop(peer)
        one.stop.set()
        await one.over.wait()

    async def end(self) -> None:
        """Close every peer."""
        for one in self._peers.values():
            one.stop.set()
        for one in self._peers.values():
            await one.over.wait()

    async def dismissed(self, peer: str) -> Any:
        """Wait until a peer's services end by themselves; return why."""
        error = await self._peers[peer].ended.get()
        return error and {"kind": type(error).__name__, "code": error.code}

    async def addresses(self, peer: str, hosts: list[str]) -> Any:
        self._peers[peer].addresses.set(hosts)

    async def locate(self, peer: str, guid: str, service: str) -> Any:
        found = await self._peers[peer].peer.locate(guid, service)
        hosts = [entry.host for entry in found.entries]
        return {"hosts": hosts, "source": found.source, "dropped": found.dropped}

    async def dns_key(self, peer: str) -> Any:
        """Return what the peer needs to be in its relay's zone."""
        key = await self._peers[peer].peer.ddns_key()
        secret = base64.b64encode(key.secret).decode()
        return {"zone": key.zone, "server": key.server, "key": secret}

    async def watch(self, peer: str, guid: str) -> Any:
        """Follow another peer until it has come and gone; return all that was told."""
        told = self._told(guid)
        async with contextlib.aclosing(self._peers[peer].peer.watch(guid)) as presences:
            async for presence in presences:
                # Whether it is `suspect` or `offline` depends on how its last connection ended.
                online = "moved" if presence.moved else "online"
                told.words.append(online if presence.state is PeerState.ONLINE else "away")
                told.changed.set()
                if told.words[-1] == "away" and "online" in told.words:
                    break
        return told.words

    async def told(self, guid: str, word: str) -> Any:
        """Wait until the watch of a peer has told this."""
        told = self._told(guid)
        while word not in told.words:
            told.changed.clear()
            await told.changed.wait()

    def _told(self, guid: str) -> "Told":
        return self._watched.setdefault(guid, Told())

    # -- sessions -------------------------------------------------------------------------------

    async def connect(
        self,
        peer: str,
        end: str,
        guid: str,
        service: str,
        mode: str,
        wait: bool = False,
        metadata: str | None = None,
    ) -> Any:
        opened = self._peers[peer].peer
        more: dict[str, Any] = {}
        if metadata is not None and "metadata" in inspect.signature(opened.connect).parameters:
            more["metadata"] = bytes.fromhex(metadata)
        session = await opened.connect(guid, service, mode=mode, wait=wait, **more)
        self._ends[end] = End(session)
        return {"number": session.id.hex(), "mode": session.mode.value}

    async def accept(self, end: str, number: str) -> Any:
        """Wait for the session that the other side calls by this number."""
        session = await self._arrival(number)
        del self._arrived[number]
        self._ends[end] = End(session)
        return {"service": session.service, "mode": session.mode.value, "remote": session.remote}

    async def exchange(self, end: str, sizes: list[int], receive: int | None = None) -> Any:
        """Send messages of these sizes and receive as many, at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.send(end, sizes))
            tasks.create_task(self.receive(end, len(sizes) if receive is None else receive))

    async def send(self, end: str, sizes: list[int]) -> Any:
        one = self._ends[end]
        for size in sizes:
            await one.session.send(message(one.sent, size))
            one.sent += 1

    async def receive(self, end: str, count: int) -> Any:
        """Receive so many messages: each must be the next one, and whole."""
        one = self._ends[end]
        for _ in range(count):
            self._check(one, await one.session.receive())

    def _check(self, one: End, got: bytes) -> None:
        wanted = message(one.received, len(got))
        assert got == wanted, f"message {one.received} is not what was sent: {got[:8].hex()}…"
        one.received += 1

    async def cut(self, end: str, sizes: list[int]) -> Any:
        """Cut the path of a session while these messages are on their way."""
        one = self._ends[end]
        while one.session.path is None:
            await self.joined(end)
        await self.send(end, sizes)
        one.before = one.session.path
        cut(one.session)

    async def move(self, end: str, peer: str, hosts: list[str], sizes: list[int]) -> Any:
        """Give a peer other addresses while these messages are on their way."""
        one = self._ends[end]
        await self.send(end, sizes)
        one.before = one.session.path
        self._peers[peer].addresses.set(hosts)

    async def joined(
        self, end: str, kind: str | None = None, host: str | None = None, other: bool = False
    ) -> Any:
        """Wait until the session has a path: of this kind, from this address, and with `other` not
        the one of the last cut or move."""
        one = self._ends[end]
        async for event in one.session.events():
            path = event.path
            if (
                path is not None
                and (kind is None or path.kind is PathKind(kind))
                and host in (None, str(path.local).rpartition(":")[0])
                and not (other and path is one.before)
            ):
                return {"kind": path.kind.value, "local": str(path.local)}
        raise AssertionError("the session is over")

    async def quiet(self, end: str, seconds: float) -> Any:
        """Say nothing for so long; return what happened to the path meanwhile."""
        happened: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for event in self._ends[end].session.events():
                    happened.append(event.reason)
        return happened[1:]  # The first one says how it is at the beginning.

    async def close(self, end: str) -> Any:
        """Close cleanly; what the other side has sent can still be read."""
        await self._ends[end].session.close()

    async def finish(self, end: str) -> Any:
        """End this side's direction."""
        await self._ends[end].session.finish()

    async def read_on(self, end: str) -> Any:
        """Read until the session is closed."""
        one = self._ends[end]
        with contextlib.suppress(SessionClosed):
            while True:
                self._check(one, await one.session.receive())

    async def forget(self, end: str) -> Any:
        """Read what a session that is over has left; return how many messages there were."""
        await self.read_on(end)
        one = self._ends.pop(end)
        return {"sent": one.sent, "received": one.received}

    async def abort(self, end: str, cutting: bool = False) -> Any:
        """Give a session up; with `cutting` the other side is not even told."""
        session = self._ends.pop(end).session
        if cutting:
            cut(session)
        session.abort("enough")


async def read_lines() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    with contextlib.closing(transport):
        # No timeout: the test says when.
        while line := await reader.readline():
            yield json.loads(line)


async def obey(party: Party, command: dict[str, Any]) -> None:
    """Carry one command out, and answer."""
    answer: dict[str, Any] = {"id": command.pop("id")}
    method = getattr(party, command.pop("do"))
    assert inspect.iscoroutinefunction(method)
    try:
        answer["done"] = await method(**command)
    except RoamRelayError as error:
        code = error.code.value if isinstance(error.code, Code) else None
        answer["refused"] = {"kind": type(error).__name__, "code": code, "reason": str(error)}
    except Exception:
        answer["broken"] = traceback.format_exc()
    print(json.dumps(answer), flush=True)


async def main() -> None:
    async with asyncio.TaskGroup() as tasks:
        party = Party(tasks)
        commands: set[asyncio.Task[None]] = set()
        async for command in read_lines():
            obeying = tasks.create_task(obey(party, command))
            commands.add(obeying)
            obeying.add_done_callback(commands.discard)
        for obeying in commands:
            obeying.cancel()
        await party.end()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("peers").setLevel(logging.INFO)
    socket.socket.accept = accept_where_present  # type: ignore[method-assign]
    asyncio.run(main())
