"""The world of a chaos run: two peers with addresses that come and go, and a relay that dies.

Everything is real but two things: a host's list of addresses is the test's (all of 127.0.0.0/8
is on the loopback interface and cannot be taken away), and a path can be muted, as when packets
are dropped without a word.
"""

import asyncio
import base64
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path as FilePath
from typing import cast

from peers import DdnsConfig, Identity, Peer, PeerConfig, Session, SessionSettings
from peers.host.address import LocalAddress
from peers.transport.listening import _Incoming
from peers.transport.tcp import RawStream
from relay.dns import DnsKeys
from tests.support.named import ZONE, free_port
from tests.support.processes import environment

SETTINGS = SessionSettings(
    window=256 * 1024, resume_window=60.0, ping_interval=0.3, silence_limit=1.0
)


_absent: set[str] = set()
"""Addresses that no host has now: what is dialed there is cut at once."""


def address(host: str) -> LocalAddress:
    """Return a loopback address as the system would tell it."""
    return LocalAddress(host, "lo", 1, 4, 8)


class Addresses:
    """A host's addresses, as the test wants them: of all that it may have, the first at first."""

    def __init__(self, every: Sequence[str]) -> None:
        self.all = tuple(every)
        self._changed = asyncio.Event()
        self.set(every[0])

    async def read(self) -> tuple[LocalAddress, ...]:
        return tuple(address(host) for host in self.hosts)

    async def changes(self) -> AsyncIterator[tuple[LocalAddress, ...]]:
        told = await self.read()
        while True:
            await self._changed.wait()
            self._changed.clear()
            now = await self.read()
            if now != told:
                told = now
                yield now

    def set(self, *hosts: str) -> None:
        """Have these addresses from now on and no others."""
        _absent.update(set(self.all) - set(hosts))
        _absent.difference_update(hosts)
        self.hosts = list(hosts)
        self._changed.set()


class Host:
    """A peer and the addresses that it may have; `by_name` it knows the zone and no relay."""

    def __init__(self, relay: "Relay", number: int, *, by_name: bool = False) -> None:
        self.all = tuple(f"127.0.{number}.{last}" for last in (1, 2, 3))
        self.addresses = Addresses(self.all)
        identity = Identity.generate()
        config = PeerConfig(
            relay=None if by_name else relay.url,
            ddns=relay.ddns(identity.guid) if by_name else None,
            sources=self.all,
            listen_hosts=("0.0.0.0",),
            stagger=0.05,
            connect_timeout=5.0,
            path_timeout=3.0,
            request_timeout=3.0,
            session=SETTINGS,
        )
        self.peer = Peer(identity, config=config, addresses=self.addresses)


@contextlib.contextmanager
def absent_addresses() -> Iterator[None]:
    """Make every direct server deaf at the addresses that its host has not."""
    made = _Incoming.connection_made

    def connection_made(self: _Incoming, transport: asyncio.BaseTransport) -> None:
        if transport.get_extra_info("sockname")[0] in _absent:
            cast(asyncio.Transport, transport).abort()
        else:
            made(self, transport)

    def connection_lost(self: _Incoming, error: Exception | None) -> None:
        if self.transport is not None:
            lost(self, error)

    lost = _Incoming.connection_lost
    _Incoming.connection_made = connection_made  # type: ignore[method-assign]
    _Incoming.connection_lost = connection_lost  # type: ignore[method-assign]
    try:
        yield
    finally:
        _Incoming.connection_made = made  # type: ignore[method-assign]
        _Incoming.connection_lost = lost  # type: ignore[method-assign]
        _absent.clear()


class Relay:
    """A relay process on one port, which can be killed and started again."""

    def __init__(self, folder: FilePath) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._port = free_port()
        self._dns_port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._identity = Identity.load_or_create(folder / "relay.key")
        (folder / "relay.toml").write_text(
            f'identity = "{folder}/relay.key"\nport = {self._port}\n'
            f'[dns]\nzone = "{ZONE}"\nport = {self._dns_port}\nstore = "{folder}/dns.sqlite"\n'
            "answers_per_second = 1e6\nanswers_burst = 1000000\nmade_per_second = 1e6\n"
        )

    def ddns(self, guid: str) -> DdnsConfig:
        """Return what a peer needs to be in the relay's zone."""
        secret = DnsKeys(self._identity, ZONE).secret(guid)
        return DdnsConfig(
            zone=ZONE,
            server=f"127.0.0.1:{self._dns_port}",
            key=base64.b64encode(secret).decode(),
            timeout=3.0,
        )

    async def start(self) -> None:
        """Start the process; return when it serves."""
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "relay", "serve", "--config", str(self._folder / "relay.toml")),
            *("--ready-file", str(ready)),
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
        )
        async with asyncio.timeout(30):
            while not ready.exists():
                assert self._process.returncode is None, "the relay ended"
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            await process.wait()


def mute(session: Session) -> bool:
    """From now on the session's path carries nothing, and nobody is told."""
    path = session.path
    stream = path._stream if path is not None else None
    if not isinstance(stream, RawStream) or stream.transport is None:
        return False
    stream.transport.pause_reading()
    stream.write = lambda data: None  # type: ignore[method-assign]
    return True


def reset(session: Session) -> bool:
    """The session's path is reset, as by a router that has lost its state."""
    path = session.path
    if path is None:
        return False
    path._stream.abort()
    return True
