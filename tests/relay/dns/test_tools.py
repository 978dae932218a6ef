"""The zone with real tools: dig, nsupdate, and our own peers."""

import asyncio
import base64
import subprocess
from pathlib import Path

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

from peers import Identity, Peer, PeerConfig
from protocol.dns_records import key_file_text
from relay.server import RelayServer
from tests.relay.dns.asking import (
    ALICE,
    MALLORY,
    NAME,
    ZONE,
    ask,
    key_of,
    port_of,
)
from tests.support.named import need


async def run(*arguments: str, text: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate(text.encode())
    return out.decode()


async def test_dig_and_nsupdate(server: RelayServer, tmp_path: Path) -> None:
    key = tmp_path / "alice.tsig"
    key.write_text(key_file_text(NAME.rstrip("."), key_of(server).secret))
    port = str(port_of(server))
    script = (
        f"server 127.0.0.1 {port}\nzone {ZONE}\nprereq nxdomain {NAME}\n"
        f"update add {NAME} 30 A 192.0.2.1\nupdate add _chat._tcp.{NAME} 30 SRV 0 0 22 {NAME}\n"
        "send\n"
    )
    for way in ([], ["-v"]):
        out = await run(need("nsupdate"), *way, "-k", str(key), text=script)
        if way:
            assert "YXDOMAIN" in out
        else:
            assert out == "", out
    out = await run(need("dig"), "-p", port, "@127.0.0.1", f"_chat._tcp.{NAME}", "SRV")
    assert "status: NOERROR" in out
    assert "flags: qr aa rd; " in out
    assert f"0 0 22 {NAME}" in out
    out = await run(need("dig"), "+tcp", "+short", "-p", port, "@127.0.0.1", NAME)
    assert out == "192.0.2.1\n"
    out = await run(
        need("nsupdate"),
        "-y",
        f"hmac-sha256:{NAME}:{base64.b64encode(b'wrong').decode()}",
        text=script.replace("nxdomain", "yxdomain"),
    )
    assert "BADSIG" in out or "NOTAUTH" in out


async def test_our_own_peers_register_and_find_each_other_there(server: RelayServer) -> None:
    from peers import DdnsConfig

    def ddns(identity: Identity | None) -> DdnsConfig:
        key = base64.b64encode(key_of(server, identity).secret).decode() if identity else None
        return DdnsConfig(zone=ZONE, server=f"127.0.0.1:{port_of(server)}", key=key)

    def config(identity: Identity | None) -> PeerConfig:
        return PeerConfig(ddns=ddns(identity), sources=("127.0.0.1",))

    async with (
        Peer(ALICE, config=config(ALICE)) as alice,
        Peer(MALLORY, config=config(None)) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(ALICE.guid, "chat")
        await asyncio.wait_for(anext(listener), 60)
        await session.close()
        by_domain = Peer(
            Identity.generate(),
            config=PeerConfig(
                relay=f"dns:{ZONE}",
                ddns=DdnsConfig(zone=ZONE, nameservers=(f"127.0.0.1:{port_of(server)}",)),
            ),
        )
        async with by_domain as carol:
            assert carol.relay_guid == server.guid
    assert (await ask(server, NAME)).rcode() == dns.rcode.NXDOMAIN
