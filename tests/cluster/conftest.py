"""One nats-server for all tests that do not stop it: each cluster has a prefix of its own."""

from collections.abc import Iterator

import pytest

from tests.cluster.nats import NatsServer, nats_server


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server
