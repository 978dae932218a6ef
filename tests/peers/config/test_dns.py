"""What can be configured of dynamic DNS."""

import pytest

from peers import DdnsConfig

ZONE = "peers.example.org"


@pytest.mark.parametrize(
    "settings",
    [
        {"zone": "not a zone"},
        {"zone": ZONE, "server": "host:port"},
        {"zone": ZONE, "nameservers": ("[::1",)},
        {"zone": ZONE, "key": "AAAA", "key_file": "x"},
    ],
)
def test_configurations_of_peers_that_cannot_be_used(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        DdnsConfig(**settings)  # type: ignore[arg-type]
