"""What a configuration names and nobody uses: a GUID that is none, a service that is misspelt."""

import pytest

from peers import ConfigError, Identity, Mode, Peer, PeerConfig, UnknownPeer
from relay.server import RelayServer

BOB = Identity.generate().guid


@pytest.mark.parametrize("key", ["guids", "policies", "selects"])
def test_a_guid_that_is_no_key_is_refused(key: str) -> None:
    values = {"guids": Mode.P2P, "policies": "only direct", "selects": "latest"}
    with pytest.raises(ConfigError, match=key):
        PeerConfig(**{key: {BOB[:-1] + "b": values[key]}})


async def test_a_service_that_was_never_used_is_told_at_the_end(
    relay: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "peers")
    config = PeerConfig(
        services={"chat": Mode.CENTRAL, "chta": Mode.P2P},
        policies={"files": "only direct", BOB: "only direct", "backpu": "only direct"},
        selects={"asked": "latest"},
    )
    async with Peer(Identity.generate(), relay.url, config=config) as one:
        one.listen("chat")
        one.expose("files", 7)
        with pytest.raises(UnknownPeer):
            await one.connect(BOB, "asked", mode=Mode.P2P)
    (line,) = [text for text in caplog.messages if "neither offered nor asked for" in text]
    assert "backpu chta" in line
    for used in ("files", "asked", "'chat'", BOB[:8]):
        assert used not in line.partition("services=")[2]
