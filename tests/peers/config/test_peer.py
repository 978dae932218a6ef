"""The configuration of a peer: which value goes before which, and what is said of a file that
cannot be used."""

from pathlib import Path

import pytest

from peers import ConfigError, Identity, Mode, PeerConfig
from tests.peers.cli.commands import run_peer

GUID, OTHER = Identity.generate().guid, Identity.generate().guid


async def test_a_config_names_the_word_of_a_policy(tmp_path: Path) -> None:
    config = tmp_path / "peer.toml"
    config.write_text('[policies]\nchat = "only dirct"\n')
    code, _, errors = await run_peer("--config", str(config), "id")
    assert code == 2
    assert "peer.toml" in errors
    assert "'dirct'" in errors


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"relay = ", "peer.toml"),
        (b'nonsense = "x"', "nonsense"),
        (b"listen_port = 70000", "listen_port"),
        (b'mode = "sideways"', "sideways"),
        (b"stagger = 0", "stagger"),
        (b"[session]\nwindow = 1", "window"),
        (b"\xff\xfe", "peer.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_fault(
    tmp_path: Path, text: bytes, named: str
) -> None:
    file = tmp_path / "peer.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=named):
        PeerConfig.load(file)
    with pytest.raises(ConfigError, match="cannot read"):
        PeerConfig.load(tmp_path / "none.toml")


def test_the_peer_goes_before_the_service_and_the_service_before_the_default() -> None:
    config = PeerConfig(
        mode=Mode.P2P,
        services={"mail": Mode.CENTRAL},
        guids={GUID: Mode.COMBINED},
        policy="only ipv4",
        policies={"mail": "only direct", GUID: "only relayed"},
        select="latest",
        selects={"mail": "fastest", GUID: "latest"},
    )
    told = [
        (config.mode_for(*who), config.policy_for(*who).text, config.select_for(*who))
        for who in ((OTHER, "chat"), (OTHER, "mail"), (GUID, "mail"))
    ]
    assert told == [
        (Mode.P2P, "only ipv4", "latest"),
        (Mode.CENTRAL, "only direct", "fastest"),
        (Mode.COMBINED, "only relayed", "latest"),
    ]
