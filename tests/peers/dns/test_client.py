"""One question to name servers, one signed update."""

import pytest

from peers import NameServerUnavailable
from peers.config.host_port import HostPort
from peers.dns.client import ask

NAME = "x.peers.example.org"


async def test_a_name_server_without_an_address_is_an_answer_too() -> None:
    with pytest.raises(NameServerUnavailable, match="no address for the name server"):
        await ask([HostPort("does-not-exist.invalid")], NAME, "TXT", 2.0)
