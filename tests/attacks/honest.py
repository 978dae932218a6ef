"""Two honest peers, who must not notice an attack: what they ask is answered, and others may come.

The attackers of these tests come from 127.0.0.66, the honest from 127.0.0.9.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocol.messages import (
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.server import RelayServer
from tests.relay.client import Client, registered
from tests.relay.planes import Streams, leg

__all__ = ["EVIL", "GOOD", "Honest", "State", "ask", "honest", "settled", "state_of"]

GOOD, EVIL = "127.0.0.9", "127.0.0.66"
_numbers = itertools.count(1)


def ask(guid: str, mode: Mode, service: str = "chat", timeout: float = 10.0) -> ServiceRequestTo:
    """Return a request for a session of its own."""
    return ServiceRequestTo(next(_numbers), guid, service, mode, os.urandom(16), timeout=timeout)


class Honest:
    """The two."""

    def __init__(self, relay: RelayServer, caller: Client, callee: Client) -> None:
        self.relay = relay
        self.caller = caller
        self.callee = callee

    async def look_up(self) -> None:
        """The caller finds the callee."""
        request = ask(self.callee.identity.guid, Mode.P2P)
        self.caller.send(request)
        answer = await self.caller.expect(ServiceResponse)
        assert (answer.request, answer.code) == (request.request, None), answer
        assert len(answer.entries) == 1

    async def tickets(self, mode: Mode = Mode.CENTRAL) -> tuple[str, str]:
        """The callee accepts what the caller asks; return their tickets."""
        request = ask(self.callee.identity.guid, mode)
        self.caller.send(request)
        while (asked := await self.callee.expect(ServiceRequestFrom)).session != request.session:
            pass  # Somebody else's, whom nobody answers.
        self.callee.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
        answer = await self.caller.expect(ServiceResponse)
        assert (answer.request, answer.code) == (request.request, None), answer
        assert answer.ticket is not None
        assert asked.ticket is not None
        return answer.ticket, asked.ticket

    async def plane(self) -> tuple[Streams, Streams]:
        """The two are joined, and bytes go through; return both legs."""
        own, other = await self.tickets()
        caller, _ = await leg(self.relay, self.caller, own)
        callee, _ = await leg(self.relay, self.callee, other)
        await self.talk(caller, callee)
        return caller, callee

    async def talk(self, caller: Streams, callee: Streams) -> None:
        """Bytes go through a plane, either way."""
        for (_, writer), (reader, _) in ((caller, callee), (callee, caller)):
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(5), 60) == b"hello"

    async def newcomer(self) -> None:
        """Somebody comes who was never here."""
        async with registered(self.relay.url, source=GOOD):
            pass


@asynccontextmanager
async def honest(relay: RelayServer) -> AsyncIterator[Honest]:
    """Register the two."""
    async with (
        registered(relay.url, source=GOOD) as caller,
        registered(relay.url, source=GOOD) as callee,
    ):
        record = callee.record("chat")
        entry = callee.entry("chat", record.seq, GOOD)
        await callee.update(record, entry)
        yield Honest(relay, caller, callee)


State = dict[str, int]


def state_of(relay: RelayServer) -> State:
    """Return what a relay holds: descriptors, and what it counts."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "connections": len(relay.connections),
        "here": relay.registry.counts(asyncio.get_running_loop().time())["online"],
        "requests": relay.broker.pending,
        "waiting planes": relay.planes.pending,
        "planes": relay.planes.live,
        "watches": len(relay.watches),
    }


async def settled(relay: RelayServer, before: State) -> None:
    """Wait until a relay holds no more than before."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while state_of(relay) != before:
                await asyncio.sleep(0.02)
    assert state_of(relay) == before
