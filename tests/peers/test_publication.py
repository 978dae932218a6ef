"""Publishing where a peer is: at the relay and in the zone, as far as they are configured."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from peers import DdnsConfig, PeerConfig
from peers.publication import Publication
from peers.tasks import Tasks
from protocol.errors import (
    Code,
    NameServerUnavailable,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    UpdateRefused,
)
from tests.support import virtual_time

RELAY = PeerConfig(relay="http://192.0.2.99:1", connect_timeout=4.0)
ZONE = PeerConfig(ddns=DdnsConfig(zone="example.org"))


class Registration:
    """A relay that takes records as the test says."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.says: list[RoamRelayError | None] = []
        """What comes of each publication; then they are taken."""
        self.unreachable: RoamRelayError | None = None
        self.taking = asyncio.Event()
        self.taking.set()
        self.at_once = 0
        self.is_over = False
        self.refusal: RoamRelayError | None = None

    async def connection(self, timeout: float | None) -> None:
        self.done.append("connection" if timeout is None else f"connection {timeout:g}")
        if self.unreachable is not None:
            raise self.unreachable

    async def publish(self) -> None:
        self.at_once += 1
        assert self.at_once == 1, "one record after the other"
        try:
            self.done.append("publish")
            await self.taking.wait()
            error = self.says.pop(0) if self.says else None
            if error is not None:
                raise error
        finally:
            self.at_once -= 1


class Names:
    """A zone that takes updates as the test says."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.error: RoamRelayError | None = None
        self.unreachable = 0
        """How often it is not reached before."""

    def changed(self) -> None:
        self.done.append("changed")

    async def published(self) -> None:
        self.done.append("published")
        if self.unreachable:
            self.unreachable -= 1
            raise NameServerUnavailable("not yet")
        if self.error is not None:
            raise self.error


class Scene:
    def __init__(self, config: PeerConfig = RELAY, *, names: bool = False) -> None:
        self.registration = Registration()
        self.names = Names() if names else None
        self.tasks = Tasks()
        self.publication = Publication(
            config, cast(Any, self.registration), cast(Any, self.names), self.tasks
        )

    async def settled(self) -> None:
        async with asyncio.timeout(60):
            while len(self.tasks):
                await asyncio.sleep(0)


async def test_what_has_changed_is_published_some_time_soon() -> None:
    scene = Scene(names=True)
    scene.publication.changed()
    assert scene.registration.done == []
    await scene.settled()
    assert scene.registration.done == ["publish"]
    assert scene.names is not None
    assert scene.names.done == ["changed"]


async def test_a_record_is_not_overtaken_by_an_earlier_one() -> None:
    scene = Scene()
    scene.registration.taking.clear()
    for _ in range(3):
        scene.publication.changed()
    waiting = asyncio.create_task(scene.publication.published())
    for _ in range(5):
        await asyncio.sleep(0)
    assert scene.registration.done.count("publish") == 1
    scene.registration.taking.set()
    await waiting
    await scene.settled()
    assert scene.registration.done.count("publish") == 4


async def test_a_refusal_in_the_background_harms_nothing() -> None:
    scene = Scene()
    scene.registration.says = [RelayUnavailable("refused", code=Code.LIMIT_EXCEEDED)]
    scene.publication.changed()
    await scene.settled()
    await scene.publication.published()


async def test_whoever_waits_is_told_what_the_relay_says() -> None:
    scene = Scene()
    scene.registration.says = [RelayUnavailable("refused", code=Code.NOT_ADMITTED)]
    scene.registration.is_over = True
    with pytest.raises(RelayUnavailable, match="refused"):
        await scene.publication.published()
    assert scene.registration.done == ["connection 4", "publish"]
    scene.registration.unreachable = RelayUnavailable("no relay")
    with pytest.raises(RelayUnavailable, match="no relay"):
        await scene.publication.published()


async def test_a_connection_that_ends_meanwhile_is_followed_by_one_that_registers_it() -> None:
    scene = Scene()
    scene.registration.says = [RelayUnavailable("the connection ended")]
    await scene.publication.published()
    assert scene.registration.done == ["connection 4", "publish", "connection 4"]


async def test_what_the_relay_cannot_take_is_told_whenever_it_is_said() -> None:
    scene = Scene()
    refused = RelayUnavailable("17 services", code=Code.BAD_MESSAGE)
    scene.registration.refusal = refused
    scene.registration.says = [refused]
    with pytest.raises(RelayUnavailable, match="17"):
        await scene.publication.published()
    # The relay ends the connection by it: the next one registers what it took before.
    scene.registration.says = [RelayUnavailable("the connection ended", code=Code.BAD_MESSAGE)]
    with pytest.raises(RelayUnavailable, match="17"):
        await scene.publication.published()


def test_who_waits_for_the_relay_and_the_zone_is_told_no_failure_that_passes() -> None:
    async def story() -> None:
        scene = Scene(msgspec.structs.replace(RELAY, wait_for_relay=True), names=True)
        assert scene.names is not None
        scene.names.unreachable = 3
        scene.registration.says = [
            RelayUnavailable("the connection ended"),
            RequestTimeout("the relay did not confirm it"),
            RelayUnavailable("silent", code=Code.HEARTBEAT_TIMEOUT),
        ]
        await scene.publication.published()
        assert scene.names.done == ["published"] * 4
        assert scene.registration.done == ["connection", "publish"] * 4
        scene.registration.is_over = True
        scene.registration.says = [RelayUnavailable("closed")]
        with pytest.raises(RelayUnavailable, match="closed"):
            await scene.publication.published()

    virtual_time.run(story())


async def test_without_a_relay_the_zone_is_enough() -> None:
    scene = Scene(ZONE, names=True)
    await scene.publication.published()
    assert scene.names is not None
    assert (scene.names.done, scene.registration.done) == (["published"], [])
    scene.names.error = UpdateRefused("not yours")
    with pytest.raises(UpdateRefused):
        await scene.publication.published()


async def test_a_closed_peer_publishes_nothing() -> None:
    scene = Scene()
    await scene.tasks.close()
    scene.publication.changed()
    await asyncio.sleep(0)
    assert scene.registration.done == []
