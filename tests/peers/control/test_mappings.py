"""What a network's NAT does to this peer's port: asked once, of a relay with a second port, and
believed for a while."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from peers import Identity, Peer
from peers.control.mappings import Mappings
from peers.reach import Mapping
from peers.tasks import Tasks
from peers.transport import DirectServer
from protocol.endpoint import Endpoint
from protocol.observation import SIZE, answer_to
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.ports import free_port
from tests.support.servers import serving

SEEN = Endpoint("198.51.100.7", 4000)
ELSEWHERE = Endpoint("198.51.100.7", 4001)


@dataclass
class Connection:
    """A control connection from the listening port, through a NAT."""

    local: Endpoint | None
    second_port: Endpoint | None
    observed: Endpoint | None = SEEN
    met_at: Endpoint | None = field(default_factory=lambda: Endpoint("127.0.0.1", 8440))


@dataclass
class Scene:
    connection: Connection
    asked: list[int]
    """From which ports the second port was asked."""
    answers: Callable[[bytes], bytes | None]
    tasks: Tasks
    mappings: Mappings

    async def look(self) -> Mapping:
        self.mappings.look(cast(Any, self.connection))
        async with asyncio.timeout(60):
            while len(self.tasks):
                await asyncio.sleep(0.01)
        return self.mappings.of(cast(Any, self.connection))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    asked: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readexactly(SIZE)
        asked.append(writer.get_extra_info("peername")[1])
        writer.write(scene.answers(question) or b"")

    direct, tasks = DirectServer.bind(("127.0.0.1",), 0), Tasks()

    @dataclass
    class Door:
        listening_port: int = direct.port

    async with serving(serve) as port:
        connection = Connection(Endpoint("127.0.0.1", direct.port), Endpoint("127.0.0.1", port))
        scene = Scene(connection, asked, lambda _: b"", tasks, Mappings(cast(Any, Door()), tasks))
        try:
            yield scene
        finally:
            await tasks.close()
            direct.close()


def telling(seen: Endpoint) -> Callable[[bytes], bytes | None]:
    return lambda question: answer_to(question, seen.host, seen.port)


@pytest.mark.parametrize(
    ("there", "mapping"),
    [
        (SEEN, Mapping.ENDPOINT_INDEPENDENT),
        (ELSEWHERE, Mapping.ADDRESS_AND_PORT_DEPENDENT),
    ],
)
async def test_it_is_asked_once_for_each_network(
    scene: Scene, there: Endpoint, mapping: Mapping
) -> None:
    scene.answers = telling(there)
    assert scene.connection.local is not None
    for _ in range(3):
        assert await scene.look() is mapping
    assert scene.asked == [scene.connection.local.port], "from the port that is listened at"
    scene.connection.observed = Endpoint("203.0.113.9", 4000)
    await scene.look()
    assert len(scene.asked) == 2, "another network"


@pytest.mark.parametrize("answer", [b"", b"x" * SIZE, b"short"])
async def test_what_is_no_answer_tells_nothing_and_is_not_asked_again(
    scene: Scene, answer: bytes
) -> None:
    scene.answers = lambda _: answer
    for _ in range(3):
        assert await scene.look() is Mapping.UNKNOWN
    assert len(scene.asked) == 1


async def test_nobody_is_asked_where_that_could_tell_nothing(scene: Scene) -> None:
    given = scene.connection
    without: list[dict[str, Any]] = [
        {"second_port": None},
        {"observed": None},
        {"local": None},
        {"local": Endpoint("127.0.0.1", 1)},  # As through a proxy.
    ]
    for change in without:
        scene.connection = Connection(**(vars(given) | change))
        assert await scene.look() is Mapping.UNKNOWN
    scene.connection = Connection(**(vars(given) | {"observed": given.local}))
    assert await scene.look() is Mapping.NONE
    assert not scene.asked


async def test_a_relay_that_names_a_well_known_service_has_nobody_dialed(scene: Scene) -> None:
    scene.connection.second_port = Endpoint("127.0.0.1", 22)
    assert await scene.look() is Mapping.UNKNOWN


async def test_networks_that_are_many_are_forgotten(scene: Scene) -> None:
    scene.answers = telling(SEEN)
    for number in range(20):
        scene.connection.observed = Endpoint(f"203.0.113.{number + 1}", 4000)
        await scene.look()
    scene.connection.observed = Endpoint("203.0.113.1", 4000)
    await scene.look()
    assert len(scene.asked) == 21


async def test_a_real_relay_s_second_port_is_not_asked_without_a_nat() -> None:
    config = RelayConfig(port=0, observe_port=free_port())
    async with RelayServer(config) as relay, Peer(Identity.generate(), relay.url) as peer:
        assert peer._rooms is not None
        registration = peer._rooms.registration
        [connection] = registration.connections
        assert connection.second_port == Endpoint("127.0.0.1", config.observe_port)
        assert registration.mappings.of(connection) is Mapping.NONE
