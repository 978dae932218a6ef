"""What a session that has ended leaves behind: nothing that a collection has to find."""

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import Iterator

import pytest

from peers import Mode, Path, Peer, Session
from relay.server import RelayServer

OURS = "peers", "relay", "protocol", "OpenSSL"


def is_ours(thing: object) -> bool:
    return type(thing).__module__.partition(".")[0] in OURS


@contextlib.contextmanager
def left_in_cycles(found: Counter[str]) -> Iterator[None]:
    """Count what of ours became unreachable in the block and did not go by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(one).__qualname__ for one in gc.garbage if is_ours(one))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("mode", list(Mode))
async def test_an_ended_session_is_gone_without_a_collection(
    relay: RelayServer, alice: Peer, bob: Peer, mode: Mode
) -> None:
    """Both ends, their paths with their TLS, and the relay's plane: some 30 KiB a session were kept
    in cycles, and what OpenSSL had besides."""
    listener = alice.listen("chat")
    await alice.published()
    gone: list[weakref.ref[Session | Path]] = []

    async def meet() -> None:
        here = await bob.connect(alice.guid, "chat", mode=mode)
        there = await anext(listener)
        await here.send(b"hello")
        assert await there.receive() == b"hello"
        for one in (here, there):
            assert one.path is not None
            gone.extend((weakref.ref(one), weakref.ref(one.path)))
        await here.close()
        await there.close()

    async def until_gone() -> None:
        while relay.planes.live or relay.planes.pending or any(one() is not None for one in gone):
            await asyncio.sleep(0.01)

    async with asyncio.timeout(120):
        await meet()  # What a peer makes once, it keeps.
        gc.collect()
        await until_gone()
        with left_in_cycles(found := Counter[str]()):
            for _ in range(3):
                await meet()
            await until_gone()
    assert not found
