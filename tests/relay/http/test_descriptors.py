"""What the file descriptors allow, and what is said where a limit is above it."""

import pytest
from msgspec import structs

from relay.config import DnsConfig, RelayConfig
from relay.http.descriptors import Descriptors
from relay.server import RelayServer

CHOSEN = {
    "max_connections": 5_000,
    "max_connections_per_address": 4_000,
    "max_newcomers": 3_000,
    "max_planes": 2_000,
    "max_pending_planes": 1_500,
}


@pytest.mark.parametrize("name", [*CHOSEN, "dns.max_connections"])
async def test_a_limit_above_what_the_descriptors_allow_is_said_at_the_start(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Descriptors, "of_process", classmethod(lambda cls: cls(1_024)))
    dns = DnsConfig(zone="example.org", port=0, max_connections=5_000)
    config = (
        RelayConfig(port=0, dns=dns) if "." in name else RelayConfig(port=0, **{name: CHOSEN[name]})
    )
    async with RelayServer(config):
        pass
    (said,) = [
        record.getMessage() for record in caplog.records if "limits are" in record.getMessage()
    ]
    assert f"'{name}': '{5_000 if '.' in name else CHOSEN[name]}, allowed " in said
    assert "descriptors=1024" in said
    assert said.count("allowed ") == 1, "of a default nobody is told"


async def test_it_is_said_again_where_it_is_reloaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Descriptors, "of_process", classmethod(lambda cls: cls(1_024)))
    config = RelayConfig(port=0)
    async with RelayServer(config) as relay:
        assert "limits are" not in caplog.text
        relay.reload(config)
        assert "limits are" not in caplog.text
        relay.reload(structs.replace(config, max_connections=5_000))
        assert "'max_connections': '5000, allowed 648'" in caplog.text
