"""Updates: what they may do, and what they must not."""

from collections.abc import Sequence

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

from peers import Identity
from protocol.dns_records import peer_name
from relay.server import RelayServer
from tests.relay.dns.asking import ALICE, MALLORY, NAME, ZONE, ask, key_of, sent, texts, update


async def test_an_update_is_made_and_unmade(server: RelayServer) -> None:
    message = update(server)
    message.absent(NAME, "TXT")
    message.add(NAME, 30, "A", "192.0.2.1", "192.0.2.2")
    message.add(NAME, 30, "TXT", '"roam-relay/1" "seq=5"')
    assert await sent(server, message) == dns.rcode.NOERROR
    assert sorted(texts(await ask(server, NAME))) == ["192.0.2.1", "192.0.2.2"]
    message = update(server)
    message.present(NAME, "TXT", '"roam-relay/1" "seq=5"')
    message.delete(NAME, "A", "192.0.2.1")
    assert await sent(server, message) == dns.rcode.NOERROR
    assert texts(await ask(server, NAME)) == ["192.0.2.2"]
    message = update(server)
    message.delete(NAME)
    assert await sent(server, message) == dns.rcode.NOERROR
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


async def test_prerequisites(server: RelayServer) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1")
    assert await sent(server, message) == dns.rcode.NOERROR

    async def code(*, present: Sequence[str] = (), absent: Sequence[str] = ()) -> str:
        message = update(server)
        if present:
            message.present(*present)
        if absent:
            message.absent(*absent)
        message.add(NAME, 30, "A", "192.0.2.66")
        return str(dns.rcode.to_text(await sent(server, message)))

    assert await code(present=[f"e9.{NAME}"]) == "NXDOMAIN"
    assert await code(absent=[NAME]) == "YXDOMAIN"
    assert await code(present=[NAME, "AAAA"]) == "NXRRSET"
    assert await code(absent=[NAME, "A"]) == "YXRRSET"
    assert await code(present=[NAME, "A", "192.0.2.2"]) == "NXRRSET"
    assert await code(present=["elsewhere.example.", "A"]) == "NOTZONE"
    assert texts(await ask(server, NAME)) == ["192.0.2.1"], "all or nothing"
    assert await code(present=[NAME, "A", "192.0.2.1"]) == "NOERROR"
    assert await code(present=[ZONE + ".", "SOA"]) == "NOERROR"


async def test_what_an_update_may_not_do(server: RelayServer) -> None:
    others = f"{peer_name(MALLORY.guid, ZONE)}."

    async def code(*add: object, who: Identity | None = ALICE, zone: str = f"{ZONE}.") -> str:
        message = dns.update.UpdateMessage(zone)
        if who is not None:
            message.use_tsig(key_of(server, who))
        message.add(*add)
        return str(dns.rcode.to_text(await sent(server, message)))

    assert await code(NAME, 30, "A", "192.0.2.1", who=None) == "REFUSED"
    assert await code(others, 30, "A", "192.0.2.1") == "REFUSED"
    assert await code(f"{ZONE}.", 30, "A", "192.0.2.1") == "REFUSED"
    assert await code(f"ns.{ZONE}.", 30, "A", "192.0.2.1") == "REFUSED"
    assert await code("example.com.", 30, "A", "192.0.2.1") == "NOTZONE"
    assert await code(NAME, 30, "NS", "evil.example.") == "REFUSED"
    assert await code(f"x.{NAME}", 30, "CNAME", "evil.example.") == "REFUSED"
    assert await code("x.example.com.", 30, "A", "192.0.2.1", zone="example.com.") == "NOTAUTH"
    message = update(server)
    for number in range(1000):
        message.add(f"n{number}.{NAME}", 30, "A", "192.0.2.1")
    assert await sent(server, message) == dns.rcode.REFUSED
    message = update(server)
    for number in range(200):
        message.add(NAME, 30, "TXT", " ".join([f'"{number:03d}{"x" * 200}"']))
    assert await sent(server, message) == dns.rcode.REFUSED
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN


async def test_deletions_and_additions_are_made_in_their_order(server: RelayServer) -> None:
    message = update(server)
    message.add(NAME, 30, "A", "192.0.2.1", "192.0.2.2", "192.0.2.3")
    message.delete(NAME, "A", "192.0.2.2")
    message.add(f"x.{NAME}", 30, "TXT", '"a"')
    message.delete(f"x.{NAME}")
    message.add(f"y.{NAME}", 99999, "TXT", '"b"')
    assert await sent(server, message) == dns.rcode.NOERROR
    assert sorted(texts(await ask(server, NAME))) == ["192.0.2.1", "192.0.2.3"]
    assert (await ask(server, f"x.{NAME}")).rcode() == dns.rcode.NXDOMAIN
    assert (await ask(server, f"y.{NAME}", "TXT")).answer[0].ttl == 3600
