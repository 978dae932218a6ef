"""A conversation over one stream of QUIC (aioquic).

python -m tests.lab.moves.rivals.quic_party listen|connect ADDRESS
"""

import asyncio
import datetime
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.moves.conversation import Conversation, say

_PORT = 9100
_ALPN = "lab"


def _certified(configuration: QuicConfiguration) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name)
    configuration.private_key = key
    configuration.certificate = (
        builder.public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


async def _talk(
    conversation: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    async def send(message: bytes) -> None:
        writer.write(message)

    await conversation.over_streams(reader.read, send)


async def _migrate(conversation: Conversation, protocol: QuicConnectionProtocol) -> None:
    pings = set()
    while await conversation.changed.wait():
        conversation.changed.clear()
        protocol.change_connection_id()
        pings.add(asyncio.create_task(protocol.ping()))


async def _listen() -> None:
    conversation = Conversation()
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[_ALPN])
    _certified(configuration)
    talks = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await _talk(conversation, reader, writer)

    def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk(reader, writer)))

    await serve("0.0.0.0", _PORT, configuration=configuration, stream_handler=opened)
    say("ready")
    await conversation.listen_to_orders()


async def _connect(address: str) -> None:
    conversation = Conversation()
    configuration = QuicConfiguration(alpn_protocols=[_ALPN], verify_mode=ssl.CERT_NONE)
    async with connect(address, _PORT, configuration=configuration) as protocol:
        reader, writer = await protocol.create_stream()
        writer.write(b"!")
        migrating = asyncio.create_task(_migrate(conversation, protocol))
        await conversation.run(lambda: _talk(conversation, reader, writer))
        migrating.cancel()


if __name__ == "__main__":
    asyncio.run(_listen() if sys.argv[1] == "listen" else _connect(sys.argv[2]))
