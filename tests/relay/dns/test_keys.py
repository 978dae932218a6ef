"""The keys of a zone: one for each name, from the relay's own."""

import dns.name
import pytest

from protocol.errors import IdentityError
from relay.dns import DnsKeys
from tests.relay.dns.asking import ALICE, MALLORY, ZONE


def test_a_key_is_of_one_relay_one_zone_and_one_peer() -> None:
    keys = DnsKeys(ALICE, ZONE)
    secrets = {
        keys.secret(ALICE.guid),
        keys.secret(MALLORY.guid),
        DnsKeys(MALLORY, ZONE).secret(ALICE.guid),
        DnsKeys(ALICE, "other.example").secret(ALICE.guid),
    }
    assert len(secrets) == 4
    assert keys.secret(ALICE.guid) == DnsKeys(ALICE, ZONE).secret(ALICE.guid)


def test_a_key_is_found_by_the_peer_s_own_name() -> None:
    keys = DnsKeys(ALICE, ZONE)
    (found,) = keys.find(dns.name.from_text(f"{ALICE.guid.upper()}.{ZONE}."))
    assert found.secret == keys.secret(ALICE.guid)
    for name in (f"x.{ALICE.guid}.{ZONE}.", f"{ALICE.guid}.example.", f"nobody.{ZONE}.", "."):
        assert keys.find(dns.name.from_text(name)) == ()
    with pytest.raises(IdentityError):
        keys.secret("nobody")
