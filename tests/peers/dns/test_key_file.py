"""Key files: read, and written so that nothing half-made is ever found."""

from pathlib import Path

import pytest

from peers import DdnsConfig, DdnsConfigError

ZONE = "peers.example.org"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nothing", "holds no key"),
        ('key "a" { algorithm hmac-md5; secret "AAAAAAAAAAAAAAAAAAAAAAAA"; };', "hmac-sha256"),
        ('key "a" { algorithm hmac-sha256; secret "AAAA"; };', "shorter than 16"),
        ('key "a..b" { algorithm hmac-sha256; secret "AAAAAAAAAAAAAAAAAAAAAAAA"; };', "not a key"),
    ],
)
def test_key_files_that_cannot_be_used(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    config = DdnsConfig(zone=ZONE, key_file=str(file))
    with pytest.raises(DdnsConfigError, match=match):
        config.read_key("a" * 52)
    file.chmod(0o644)
    with pytest.raises(DdnsConfigError, match="chmod 600"):
        config.read_key("a" * 52)
    with pytest.raises(DdnsConfigError, match="cannot read"):
        DdnsConfig(zone=ZONE, key_file=str(tmp_path / "none")).read_key("a" * 52)
