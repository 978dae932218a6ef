"""One attack between network namespaces: `python -m tests.attacks.scene ATTACK PID PID PID`, of
processes in those of the relay, the peer and the stranger. It ends with its standard input.

Each party has a thread and a loop of its own, and all its sockets are of its namespace. Nobody says
here what came of it: that is counted where the victim is (lab.py).
"""

import asyncio
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from peers import DdnsConfig, Identity, Peer
from protocol.dns_records import entry_text
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks import dialing
from tests.attacks.dialing import SESSIONS, Tell, Victims, served, signed
from tests.support.name_server import answered, fake

__all__ = ["ATTACKS", "BESIDE", "PORT", "PRIVATE", "PUBLIC", "RELAY", "STRANGER"]

_T = TypeVar("_T")

RELAY, STRANGER = "192.0.2.1", "198.51.100.2"
PUBLIC = tuple(f"203.0.113.{number}" for number in range(11, 19))
"""The victim's, behind the peer that is made to dial: for it they are nobody's in particular."""
PRIVATE = "10.77.0.9"
"""Its address in a network that the peer has an interface in."""
BESIDE = tuple(range(7001, 7009))
"""Ports of others at the stranger's own address."""
PORT = 7000
_SPREAD = tuple(range(7100, 7116))
_HUNDRED = 100
_CLONE_NEWNET = 0x4000_0000

Attack = Callable[[str, Peer, Victims], Coroutine[Any, Any, None]]


class Inside:
    """A thread in the network namespace of a process, with a loop."""

    def __init__(self, pid: int) -> None:
        self.loop = asyncio.new_event_loop()
        self._entered = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(pid,), daemon=True)
        self._thread.start()
        self._entered.wait()

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def _run(self, pid: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        if libc.setns(namespace, _CLONE_NEWNET):
            os._exit(3)
        os.close(namespace)
        asyncio.set_event_loop(self.loop)
        self._entered.set()
        self.loop.run_forever()


class Elsewhere:
    """A peer of another loop, for who has to have it called there."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self._peer = peer
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peer, name)

    async def connect(self, *arguments: Any, **more: Any) -> Any:
        calling = self._peer.connect(*arguments, **more)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(calling, self._loop))


def spread(*places: tuple[str, int]) -> Attack:
    """Tell places in every one of forty sessions of one key."""

    async def attack(relay: str, server: Peer, there: Victims) -> None:
        identity = Identity.generate()
        tell: Tell = {identity: signed(identity, *places)}
        await dialing.telling(relay, server, there, tell, SESSIONS)

    return attack


async def by_location(relay: str, server: Peer, there: Victims) -> None:
    """Tell other addresses all the time, in one session."""
    identity, number = Identity.generate(), 0
    attacker = Peer(identity, relay=relay, config=dialing.config(listen_hosts=(there.own,)))
    async with attacker:
        session = await attacker.connect(server.guid, "chat", mode="auto", policy="only relayed")
        while not RELEASED.is_set():
            place = there.hosts[number % len(there.hosts)], PORT
            session.tell_location(signed(identity, place, seq=number + 2))
            number += 1
            # The rate is what is tested.
            await asyncio.sleep(0.05)


async def hundred_keys(relay: str, server: Peer, there: Victims) -> None:
    """Tell one place in a session of each of a hundred keys."""
    keys = [Identity.generate() for _ in range(_HUNDRED)]
    tell: Tell = {key: signed(key, (PUBLIC[0], PORT)) for key in keys}
    await dialing.telling(relay, server, there, tell, _HUNDRED)


async def hundred_keys_spread(relay: str, server: Peer, there: Victims) -> None:
    """Tell places of one network, another port by each of a hundred keys."""
    keys = [Identity.generate() for _ in range(_HUNDRED)]
    tell: Tell = {
        key: signed(key, (PUBLIC[number % len(PUBLIC)], 7100 + number))
        for number, key in enumerate(keys)
    }
    await dialing.telling(relay, server, there, tell, _HUNDRED)


async def dial_back(relay: str, server: Peer, there: Victims) -> None:
    """Ask in `combined`, and come for nothing."""
    await dialing.dial_back(relay, server, list(BESIDE), SESSIONS, STRANGER)


async def by_name(relay: str, server: Peer, there: Victims) -> None:
    """Be looked up: signed records of others' addresses, again and again."""
    await _named(
        server,
        lambda stranger: [
            f"TXT {entry_text(one)}" for one in signed(stranger, *((host, PORT) for host in PUBLIC))
        ],
    )


async def by_srv(relay: str, server: Peer, there: Victims) -> None:
    """Be looked up: SRV records that nobody has signed, whose name is the victim's."""
    await _named(
        server,
        lambda stranger: [
            *(f"SRV 0 0 {port} t.example.org." for port in _SPREAD[:8]),
            *(f"A {host}" for host in (*PUBLIC[:4], PRIVATE)),
            "AAAA 64:ff9b::cb00:710b",
        ],
    )


async def _named(server: Peer, records: Callable[[Identity], list[str]]) -> None:
    stranger = Identity.generate()
    found = records(stranger)
    async with fake(lambda query: [answered(query, *found)], STRANGER) as (at, _):
        where = DdnsConfig(zone="example.org", server=str(at))

        async def look() -> None:
            async with Peer(Identity.generate(), ddns=where, config=dialing.config()) as caller:
                await dialing.by_name(caller, stranger.guid, 10)

        done = asyncio.run_coroutine_threadsafe(look(), PARTIES["peer"].loop)
        await asyncio.wrap_future(done)
        await dialing.until(RELEASED.is_set)


ATTACKS: dict[str, Attack] = {
    "40 sessions of a stranger that calls, in auto": lambda relay, server, there: (
        dialing.over_the_relay(relay, server, there, SESSIONS)
    ),
    "10 sessions with a stranger that is called": lambda relay, server, there: dialing.calling(
        relay, server, there, 10
    ),
    "10 sessions that are cut, told in the hello": lambda relay, server, there: dialing.by_hello(
        relay, server, there, 10
    ),
    "one session, another address every 50 ms": by_location,
    "10 look-ups of a name, signed records": by_name,
    "10 look-ups of a name, SRV and A records": by_srv,
    "40 requests in combined, ports beside the caller": dial_back,
    "a session of each of 100 keys, one address": hundred_keys,
    "the same, a port of a network by each key": hundred_keys_spread,
    "40 sessions, 16 ports of one address": spread(*((PUBLIC[0], port) for port in _SPREAD)),
    "40 sessions, its private address": spread(*((PRIVATE, port) for port in _SPREAD)),
    "40 sessions, well-known ports": spread(
        *((PUBLIC[0], port) for port in (22, 25, 53, 80, 443, 3306, 5432, 6379, 9200, 11211))
    ),
    "40 sessions, mapped IPv6": spread(*((f"::ffff:{PUBLIC[0]}", port) for port in _SPREAD)),
    "40 sessions, NAT64": spread(*(("64:ff9b::cb00:710b", port) for port in _SPREAD)),
    "40 sessions, IPv4, NAT64 and 6to4 in turn": spread(
        *(
            (host, port)
            for port in _SPREAD[:5]
            for host in (PUBLIC[0], "64:ff9b::cb00:710b", "2002:cb00:710b::1")
        )
    ),
}
"""By what a table calls them."""
PARTIES: dict[str, Inside] = {}
RELEASED = threading.Event()


async def _serve(url: str, opened: asyncio.Future[Peer], config: Any) -> None:
    async with Peer(Identity.generate(), url, config=config) as peer, served(peer):
        opened.set_result(peer)
        await dialing.until(RELEASED.is_set)


def main(name: str, *pids: str) -> None:
    """Play one attack."""
    for party, pid in zip(("relay", "peer", "stranger"), pids, strict=True):
        PARTIES[party] = Inside(int(pid))
    # The attack goes on for as long as somebody counts.
    dialing.looked = lambda peer, count: RELEASED.is_set()

    async def start() -> RelayServer:
        return await RelayServer(RelayConfig(host="0.0.0.0", port=8440)).__aenter__()

    async def open_peer() -> Peer:
        opened: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
        config = dialing.config(listen_hosts=("0.0.0.0", "::"))
        kept.append(asyncio.ensure_future(_serve(url, opened, config)))
        return await opened

    kept: list[Any] = []
    url = f"http://{RELAY}:8440"
    kept.append(PARTIES["relay"].do(start()))
    server: Any = Elsewhere(PARTIES["peer"].do(open_peer()), PARTIES["peer"].loop)
    there = Victims(PORT, PUBLIC, STRANGER)
    print("begins", flush=True)
    working = asyncio.run_coroutine_threadsafe(
        ATTACKS[name](url, server, there), PARTIES["stranger"].loop
    )
    sys.stdin.read()
    RELEASED.set()
    failed = working.exception(timeout=dialing.LONG)
    print(f"failed: {failed!r}" if failed else "over", server.dialing, flush=True)
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
