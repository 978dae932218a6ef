"""Two relays and two parties, one of each version, and the peers and sessions between them."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from peers import Identity
from tests.compat.children import Child, Party, Relay, all_of
from tests.compat.past import NEW, OLD, Tree

__all__ = [
    "CASTS",
    "EVERY_CAST",
    "MODES",
    "Cast",
    "End",
    "Peer",
    "Talk",
    "World",
    "direct_or_relayed",
]

SERVICES = {"talk": {}, "private": {"allow": []}, "hidden": {"disclose": "nobody"}}
ZONE = "peers.example.org"
MODES = ["p2p", "combined", "central", "auto"]


@dataclass(frozen=True, slots=True)
class Cast:
    """Which version plays which part."""

    relay: str
    caller: str
    callee: str

    def __str__(self) -> str:
        return f"relay {self.relay}, caller {self.caller}, callee {self.callee}"


CASTS = [
    Cast(*versions)
    for versions in itertools.product((OLD, NEW), repeat=3)
    if len(set(versions)) > 1
]
"""Every cast in which old meets new. All new is what the other tests are for."""


EVERY_CAST = pytest.mark.parametrize("cast", CASTS, ids=str)


def direct_or_relayed(mode: str) -> str:
    """Return the kind of path on which a session of this mode ends up where all can be reached."""
    return "relayed" if mode == "central" else "direct"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer in a party."""

    party: Party
    name: str
    guid: str
    key: str
    """The file."""
    hosts: list[str]
    """All addresses that it may have. It begins with the first."""

    async def __call__(self, do: str, **arguments: Any) -> Any:
        """Have its party do something with it."""
        return await self.party(do, peer=self.name, **arguments)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a session, and the peer that has it."""

    peer: Peer
    name: str

    async def __call__(self, do: str, **arguments: Any) -> Any:
        """Have its party do something with it."""
        return await self.peer.party(do, end=self.name, **arguments)

    async def move(self, hosts: list[str], sizes: list[int]) -> None:
        """Give its peer other addresses while messages of these sizes are on their way."""
        await self("move", peer=self.peer.name, hosts=hosts, sizes=sizes)


@dataclass(frozen=True, slots=True)
class Talk:
    """A session between two peers."""

    caller: End
    callee: End

    @property
    def ends(self) -> tuple[End, End]:
        return self.caller, self.callee

    def other(self, end: End) -> End:
        """Return the end that is not this one."""
        return self.callee if end is self.caller else self.caller

    async def exchange(self, *sizes: int) -> None:
        """Send messages of these sizes both ways at once; each must arrive once and in order."""
        await all_of(*(end("exchange", sizes=sizes) for end in self.ends))

    async def joined(self, **how: Any) -> None:
        """Wait until both ends have a path, such a one."""
        await all_of(*(end("joined", **how) for end in self.ends))

    async def close(self, *closing: End) -> None:
        """Close it from one end, or from both at once. What was sent before can still be read."""
        others = [end for end in self.ends if end not in closing]
        await all_of(*(end("close") for end in closing), *(end("read_on") for end in others))
        one, two = await all_of(*(end("forget") for end in self.ends))
        assert (one["sent"], one["received"]) == (two["received"], two["sent"])


class World:
    """All processes of one run. Peers are opened when they are first asked for."""

    def __init__(self, old: Tree, new: Tree, folder: Path) -> None:
        self.trees = {OLD: old, NEW: new}
        self.folder = folder
        self.children: list[Child] = []
        """All that there ever were."""
        self.parties = {name: Party(tree) for name, tree in self.trees.items()}
        self.relays = {
            name: Relay(tree, self.config(f"{name} relay")) for name, tree in self.trees.items()
        }
        self._peers: dict[tuple[str, ...], Peer] = {}
        self._opening = asyncio.Lock()
        self._hosts = itertools.count(1)
        self._numbers = itertools.count(1)

    def config(self, name: str, port: int = 0, dns_port: int = 0) -> Path:
        """Write the configuration of a relay of this name; return its file."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        Identity.load_or_create(folder / "relay.key")
        (folder / "relay.toml").write_text(
            f'port = {port}\nidentity = "{folder}/relay.key"\nheartbeat = 6.0\n'
            f"drain_timeout = 0.0\n"
            f'[dns]\nzone = "{ZONE}"\nport = {dns_port}\nstore = "{folder}/dns.sqlite"\n'
        )
        return folder / "relay.toml"

    @contextlib.asynccontextmanager
    async def running(self, *children: Child) -> AsyncIterator[None]:
        """Start these children at once; stop them in turn, the last first."""
        self.children += children
        async with contextlib.AsyncExitStack() as stack:
            for child in children:
                stack.push_async_callback(child.stop)
            await all_of(*(child.start() for child in children))
            yield

    async def open(self, version: str, relay: str | None, **how: Any) -> Peer:
        """Open a peer, as tests/compat/party.py does."""
        number = next(self._hosts)
        name = f"{version} {number}"
        hosts = [f"127.{1 + number // 256}.{number % 256}.{last}" for last in (1, 2, 3)]
        party = self.parties[version]
        how = {"relay": relay, "key": str(self.folder / f"{name}.key")} | how
        guid = await party("open", peer=name, hosts=hosts, **how)
        return Peer(party, name, guid, how["key"], hosts)

    async def peer(self, relay: str, version: str, part: str, carrier: str = "raw") -> Peer:
        """Return the peer of this version at this relay that plays this part; open it once."""
        key = relay, version, part, carrier
        async with self._opening:
            if key not in self._peers:
                services = SERVICES if part == "callee" else {}
                self._peers[key] = await self.open(
                    version, self.relays[relay].url, carrier=carrier, services=services
                )
        return self._peers[key]

    async def cast(self, cast: Cast, carriers: tuple[str, str] = ("raw", "raw")) -> list[Peer]:
        """Return the caller and the callee of a cast."""
        return [
            await self.peer(cast.relay, cast.caller, "caller", carriers[0]),
            await self.peer(cast.relay, cast.callee, "callee", carriers[1]),
        ]

    async def talk(
        self, caller: Peer, callee: Peer, mode: str, *, becomes: str = "", **how: Any
    ) -> Talk:
        """Open a session between two peers; it must not fall back on another mode, unless it
        `becomes` one of that mode."""
        name = f"session {next(self._numbers)}"
        here, there = End(caller, f"{name}, caller"), End(callee, f"{name}, callee")
        about = {"guid": callee.guid, "service": "talk", "mode": mode} | how
        opened = await here.peer("connect", end=here.name, **about)
        assert opened["mode"] == (becomes or mode)
        accepted = await there("accept", number=opened["number"])
        assert accepted == {
            "service": about["service"],
            "mode": opened["mode"],
            "remote": caller.guid,
        }
        return Talk(here, there)
