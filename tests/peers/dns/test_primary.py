"""The zone's own server, as one peer talks to it: found, asked, and believed within bounds."""

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import pytest

from peers import DdnsConfig, Identity, NameServerUnavailable
from peers.config.host_port import HostPort
from peers.dns import client
from peers.dns.events import NOTHING, Followed
from peers.dns.primary import Primary
from peers.dns.update import update_message
from protocol.dns_records import ZoneRecord, peer_name
from tests.support.name_server import Answer, answered, fake

ZONE = "peers.example.org"
ALICE = Identity.from_seed(bytes(range(32)))
KEY = dns.tsig.Key(peer_name(ALICE.guid, ZONE), b"0" * 32, "hmac-sha256")


def texts(*data: str) -> Answer:
    return lambda query: [answered(query, *(f"TXT {one}" for one in data))]


async def looked_up(answer: Answer) -> Followed:
    async with fake(answer) as (server, _):
        config = DdnsConfig(zone=ZONE, server=str(server), timeout=2.0)
        return await Primary(ALICE.guid, config, KEY).look()


async def test_the_record_is_found_among_those_of_other_programs_which_are_in_the_way() -> None:
    ours = '"roam-relay/1" "seq=7" "instance=00ff" "service=chat"'
    assert await looked_up(texts(ours)) == Followed(ZoneRecord(7, ("chat",), "00ff"), ours)
    assert await looked_up(texts()) is NOTHING
    for data, text, seq in (('"v=spf1 -all"',), "", 0), (('"v=spf1 -all"', ours), ours, 7):
        found = await looked_up(texts(*data))
        assert (found.text, found.others, found.record.seq) == (text, ('"v=spf1 -all"',), seq)
        assert found.obstacle.startswith(f"{ALICE.guid}.{ZONE} has a TXT record of another program")
        assert "v=spf1 -all" in found.obstacle
        message = update_message(ALICE.guid, ZONE, found, {})
        read = dns.message.from_wire(message.to_wire())
        conditions, changes = read.sections[1], read.sections[2]
        assert {one[0].to_text() for one in conditions} == set(data), "the whole set, or nothing"
        own = [one for one in changes if one.name.to_text() == f"{ALICE.guid}.{ZONE}."]
        taken = [one[0].to_text() for one in own if one.rdtype == dns.rdatatype.TXT]
        assert taken == ([ours] if text else []), "theirs stays"


async def test_an_alias_at_the_name_is_in_the_way() -> None:
    def alias(query: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(query)
        name = query.question[0].name
        response.answer.append(dns.rrset.from_text(name, 30, "IN", "CNAME", "www.example."))
        return [response.to_wire()]

    found = await looked_up(alias)
    assert found.text == ""
    assert "is an alias (CNAME www.example.)" in found.obstacle


@pytest.mark.parametrize(
    "data",
    [
        '"roam-relay/1" "seq=99999999999999999999999"',
        '"roam-relay/1" "service=' + "a" * 63 + '"',
        '"roam-relay/1" "service=a..b" "service=" "service=\\255\\255" "service=\\\\"',
        '"roam-relay/1" "instance=' + "z" * 200 + '"',
        '"roam-relay/1" ' + " ".join(f'"service=s{number}"' for number in range(200)),
        '"roam-relay/1" "\\000\\001\\"\\\\" "seq=\\128"',
    ],
)
async def test_garbage_in_the_zone_can_be_followed_and_replaced(data: str) -> None:
    found = await looked_up(texts(data))
    assert found.record.seq == 0
    message = update_message(ALICE.guid, ZONE, found, {})
    (condition,) = dns.message.from_wire(message.to_wire()).sections[1]
    assert condition[0].to_text() == found.text


async def test_a_zone_may_name_anything_as_its_server() -> None:
    for name in (".", "a\\.b.", "\\000.", "\\255\\255.example."):
        answer = f"SOA {name} h.{ZONE}. 1 1 1 1 1"
        async with fake(lambda query, answer=answer: [answered(query, answer)]) as (server, _):
            config = DdnsConfig(zone=ZONE, nameservers=(str(server),), timeout=1.0)
            with pytest.raises(NameServerUnavailable):
                await Primary(ALICE.guid, config, KEY).look()


async def test_the_address_that_answers_gets_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's name may have addresses that lead nowhere from here."""
    sent: list[HostPort] = []

    async def addresses(server: HostPort) -> list[str]:
        asked.append(server.host)
        return ["127.0.0.2", "127.0.0.1"]

    async def update(server: HostPort, *more: object) -> dns.rcode.Rcode:
        sent.append(server)
        return dns.rcode.NOERROR

    monkeypatch.setattr(client, "addresses_of", addresses)
    monkeypatch.setattr(client, "update", update)
    async with fake(texts()) as (server, _):
        config = DdnsConfig(zone=ZONE, server=f"ns.example:{server.port}", timeout=2.0)
        primary = Primary(ALICE.guid, config, KEY)
        asked: list[str] = []
        for _ in range(2):
            found = await primary.look()
            assert (await primary.update(found, {})).server == server
        assert asked.count("ns.example") == 1, "what was found is kept"
        primary.forget()
        await primary.look()
        assert asked.count("ns.example") == 2
    assert sent == [server, server]
