"""What is in the zone: peers with a connection, what updates have stored, and the relay."""

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

from peers import Peer
from relay.server import RelayServer
from tests.relay.dns.asking import ALICE, MALLORY, NAME, ZONE, ask, sent, texts, update


async def test_a_registered_peer_is_in_the_zone_and_goes_with_its_connection(
    server: RelayServer,
) -> None:
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat")
        alice.listen("secret", disclose="nobody")
        await alice.published()
        response = await ask(server, f"_chat._tcp.{NAME}", "SRV")
        assert response.rcode() == dns.rcode.NOERROR
        assert response.flags & dns.flags.AA
        assert not response.flags & dns.flags.RA
        assert texts(response)[0] == f"0 0 {alice.port} e0.{NAME}"
        assert {rrset.name.to_text() for rrset in response.additional} == {f"e0.{NAME}"}
        assert texts(await ask(server, NAME)) == ["127.0.0.1"]
        assert len(texts(await ask(server, f"_chat._tcp.{NAME}", "TXT"))) == 1
        hidden = await ask(server, f"_secret._tcp.{NAME}", "SRV")
        assert not hidden.answer
    gone = await ask(server, NAME)
    assert gone.rcode() == dns.rcode.NXDOMAIN
    assert gone.authority[0].rdtype == dns.rdatatype.SOA
    assert gone.authority[0].ttl <= 10


async def test_a_peer_that_discloses_nothing_to_anyone_is_not_there(server: RelayServer) -> None:
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat", disclose=[MALLORY.guid])
        await alice.published()
        assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


async def test_the_apex_the_name_server_and_the_relay(server: RelayServer) -> None:
    assert texts(await ask(server, ZONE, "NS")) == [f"ns.{ZONE}."]
    assert texts(await ask(server, ZONE, "SOA"))[0].startswith(f"ns.{ZONE}. hostmaster.{ZONE}.")
    assert texts(await ask(server, f"ns.{ZONE}")) == ["127.0.0.1"]
    port = server.url.rpartition(":")[2]
    assert texts(await ask(server, f"_roam-relay._tcp.{ZONE}", "SRV")) == [
        f"0 0 {port} relay.{ZONE}."
    ]
    assert not (await ask(server, ZONE, "A")).answer


async def test_the_higher_number_counts_of_registration_and_update(server: RelayServer) -> None:
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat")
        await alice.published()
        message = update(server)
        message.delete(NAME, "A")
        message.add(NAME, 30, "A", "192.0.2.77")
        message.replace(NAME, 30, "TXT", '"roam-relay/1" "seq=99999999999999"')
        assert await sent(server, message) == dns.rcode.NOERROR
        assert texts(await ask(server, NAME)) == ["192.0.2.77"]
        message = update(server)
        message.replace(NAME, 30, "TXT", '"roam-relay/1" "seq=1"')
        assert await sent(server, message) == dns.rcode.NOERROR
        assert texts(await ask(server, NAME)) == ["127.0.0.1"]
    assert texts(await ask(server, NAME)) == ["192.0.2.77"]
