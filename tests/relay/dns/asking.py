"""Questions and updates for a relay's zone, by dnspython."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

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
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer

ZONE = "peers.example.org"


ALICE = Identity.from_seed(bytes(range(32)))


MALLORY = Identity.from_seed(bytes(range(1, 33)))


NAME = f"{peer_name(ALICE.guid, ZONE)}."


@contextlib.asynccontextmanager
async def serving(**more: object) -> AsyncIterator[RelayServer]:
    settings = {"made_per_second": 1e6, "updates_burst": 10_000} | more
    config = DnsConfig(zone=ZONE, port=0, addresses="127.0.0.1", **settings)  # type: ignore[arg-type]
    async with RelayServer(RelayConfig(port=0, dns=config)) as server:
        yield server


def port_of(server: RelayServer) -> int:
    assert server.dns is not None
    return server.dns.port


async def ask(
    server: RelayServer, name: str, kind: str = "A", *, tcp: bool = False, **more: object
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]
    return await send(server, query, tcp=tcp)


async def send(
    server: RelayServer, query: dns.message.Message, *, tcp: bool = False
) -> dns.message.Message:
    way = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await way(query, "127.0.0.1", 5, port_of(server))


def key_of(server: RelayServer, identity: Identity = ALICE) -> dns.tsig.Key:
    assert server.dns is not None
    return server.dns.keys.key(identity.guid)


def update(server: RelayServer, identity: Identity | None = ALICE) -> dns.update.UpdateMessage:
    message = dns.update.UpdateMessage(f"{ZONE}.")
    if identity is not None:
        message.use_tsig(key_of(server, identity))
    return message


async def sent(server: RelayServer, message: dns.message.Message) -> dns.rcode.Rcode:
    return (await send(server, message, tcp=True)).rcode()


def texts(response: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in response.answer for rdata in rrset]


async def raw(server: RelayServer, wire: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    try:
        writer.write(len(wire).to_bytes(2, "big") + wire)
        async with asyncio.timeout(60):
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
    finally:
        writer.close()
        await writer.wait_closed()
