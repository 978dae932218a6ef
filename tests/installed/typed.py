"""A user's program, for type checkers alone: it uses what a program uses of the library."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import reveal_type

from peers import (
    UNKNOWN,
    Candidate,
    Identity,
    Mode,
    Path,
    Peer,
    PeerConfig,
    PeerState,
    Presence,
    Session,
    SessionLost,
    Status,
    UnknownPeer,
    blocking,
)


async def talk(peer: Peer, guid: str) -> bytes:
    session: Session = await peer.connect(guid, "chat", mode=Mode.AUTO)
    async with session:
        await session.send(b"hello")
        reply = await session.receive()
        reveal_type(reply)
        path: Path | None = session.path
        if path is not None:
            print(path.kind.value, path.remote, path.round_trip)
        return reply


def farthest(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    return sorted(candidates, key=lambda one: -(one.round_trip or 0.0))


async def chosen(peer: Peer, guid: str) -> None:
    async with await peer.connect(guid, "chat", mode="p2p", select=farthest) as session:
        async for message in session:
            print(message.decode())


async def follow(peer: Peer, guid: str) -> AsyncIterator[str]:
    async for presence in peer.watch(guid):
        yield word(presence)


def word(presence: Presence) -> str:
    if presence.state == UNKNOWN:
        return "grey"
    match presence.state:
        case PeerState.ONLINE | PeerState.SUSPECT:
            return "here"
        case PeerState.OFFLINE:
            return f"away for {presence.last_seen}"


async def echo(session: Session) -> None:
    async for message in session:
        await session.send(message)


async def main() -> None:
    config = PeerConfig(relay="http://127.0.0.1:8440", mode=Mode.AUTO)
    async with Peer(Identity.load_or_create("a.key"), config=config) as peer:
        status: Status = peer.status
        print(status.state.value, status.cause)
        serving = asyncio.create_task(peer.serve("chat", echo))
        try:
            await talk(peer, peer.guid)
        except SessionLost as lost:
            print(len(lost.messages))
        except UnknownPeer as unknown:
            print(unknown.retry_after)
        finally:
            serving.cancel()


def script(guid: str) -> bytes:
    with (
        blocking.Peer(Identity.generate(), relay="http://127.0.0.1:8440") as peer,
        peer.connect(guid, "chat", mode="central") as session,
    ):
        session.send(b"hello")
        return session.receive(timeout=5)
