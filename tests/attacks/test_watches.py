"""Fresh keys of one network that watch somebody: who else may?"""

from contextlib import AsyncExitStack

import pytest

from protocol.errors import Code
from protocol.messages import PeerEvent, PeerState, Watch
from relay.config import RelayConfig
from relay.presence import watches as module
from relay.server import RelayServer
from tests.attacks.honest import EVIL, honest, settled, state_of
from tests.relay.client import registered


async def test_fresh_keys_of_one_network_do_not_keep_others_from_watching(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_WATCHERS", 16)
    async with RelayServer(RelayConfig(port=0)) as relay, honest(relay) as peers:
        before = state_of(relay)
        victim = peers.callee.identity.guid
        async with AsyncExitStack() as stack:
            codes = []
            for network in range(3):
                for _ in range(10):
                    evil = await stack.enter_async_context(
                        registered(relay.url, source=f"127.0.{network}.66")
                    )
                    evil.send(Watch(victim))
                    codes.append((await evil.expect(PeerEvent)).code)
            assert codes[:10] == [None] * 8 + [Code.LIMIT_EXCEEDED] * 2
            peers.caller.send(Watch(victim))
            event = await peers.caller.expect(PeerEvent)
            assert (event.code, event.state) == (None, PeerState.ONLINE)
            assert len(relay.watches) == 16, "one of the others gave way"
            peers.caller.send(Watch(victim, watching=False))
            await peers.look_up()
        await settled(relay, before)


async def test_one_that_gives_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WATCHERS", 2)
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        honest(relay) as peers,
        registered(relay.url, source=EVIL) as evil,
        registered(relay.url, source="127.0.1.66") as other,
        registered(relay.url, source="127.0.2.66") as third,
    ):
        victim = peers.callee.identity.guid
        for one in (evil, other):
            one.send(Watch(victim))
            assert (await one.expect(PeerEvent)).code is None
        third.send(Watch(victim))
        assert (await third.expect(PeerEvent)).code is None
        assert (await evil.expect(PeerEvent)).code is Code.LIMIT_EXCEEDED
