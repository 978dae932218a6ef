"""A client of the relay's raw carrier that is not ours: asyncio streams and the codec, no library.

It can say what no honest peer says.
"""

import asyncio
import base64
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

from msgspec import structs

from protocol.codec import MessageDecoder, encode, encode_location
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.identity import CONTEXT_PLANE, CONTEXT_REGISTER, Identity, public_key_of
from protocol.invitation import Token
from protocol.messages import (
    Challenge,
    Hello,
    LocationRecord,
    Message,
    Register,
    Registered,
    ServiceRecord,
    Update,
)
from protocol.tables import FROM_RELAY

M = TypeVar("M", bound=Message)
_seqs = itertools.count(1)

TIMEOUT = 60.0


async def upgrade(
    url: str, target: str, source: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int, bytes]:
    """Ask for the raw carrier; return the streams, the status and the body of a refusal."""
    reader, writer, head, body = await upgrade_with(url, target, source=source)
    return reader, writer, int(head.split()[1]), body


async def upgrade_with(
    url: str, target: str, headers: str = "", *, source: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes, bytes]:
    """Do so with more headers; return the whole head of the answer in place of its status."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port,
        limit=1 << 22,
        local_addr=(source, 0) if source is not None else None,
    )
    writer.write(
        f"GET {target} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n"
        f"Upgrade: roam-relay/1\r\n{headers}\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
    body = b""
    if int(head.split()[1]) != 101:
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
    return reader, writer, head, body


class Client:
    """One raw control connection."""

    def __init__(
        self, identity: Identity, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        self.identity = identity
        self.reader = reader
        self.writer = writer
        self.instance = os.urandom(16)
        self.decoder = MessageDecoder(FROM_RELAY)
        self.messages: list[Message] = []
        self.challenge: Challenge | None = None
        self.sent: list[bytes] = []

    def send(self, message: Message) -> None:
        self.send_bytes(encode(message))

    def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)
        self.writer.write(data)

    async def expect(self, cls: type[M]) -> M:
        """Return the next message, which must be of this class; others but pings are a failure."""
        while True:
            while not self.messages:
                data = await asyncio.wait_for(self.reader.read(65536), TIMEOUT)
                assert data, f"the relay closed before {cls.__name__}"
                self.messages += self.decoder.receive(data)  # type: ignore[arg-type]
            message = self.messages.pop(0)
            if isinstance(message, cls):
                return message
            assert type(message).__name__ == "Ping", message

    async def closed(self) -> bool:
        """Wait until the relay has closed the connection; False where it said more before."""
        assert not self.messages
        try:
            return not await asyncio.wait_for(self.reader.read(65536), TIMEOUT)
        except ConnectionResetError:
            return True

    def entry(self, service: str, seq: int, host: str = "127.0.0.1", port: int = 9) -> SignedEntry:
        return sign_entry(
            self.identity,
            Entry(seq, service, host, port, Phase.PREFERRED, 120, Provenance.INTERFACE),
        )

    def record(self, *services: str, seq: int | None = None) -> LocationRecord:
        seq = next(_seqs) if seq is None else seq
        return LocationRecord(
            seq, tuple(ServiceRecord(name, (self.entry(name, seq),)) for name in services)
        )

    async def hello(self, **changes: object) -> Challenge:
        fields = {"guid": self.identity.guid, "instance": self.instance, "nonce": os.urandom(32)}
        self.send(Hello(**(fields | changes)))  # type: ignore[arg-type]
        self.challenge = await self.expect(Challenge)
        return self.challenge

    def signed_register(self, location: bytes, token: Token | None = None) -> Register:
        assert self.challenge is not None
        shown = b""
        if token is not None:
            shown = token.present(self.challenge.guid, self.challenge.nonce, self.identity.guid)
        return Register(
            location,
            self.identity.sign(
                CONTEXT_REGISTER,
                public_key_of(self.challenge.guid),
                self.challenge.nonce,
                self.identity.public_key,
                self.instance,
                location,
            ),
            shown,
        )

    async def register(
        self, *services: str, seq: int | None = None, token: Token | None = None
    ) -> Registered:
        await self.ask_to_register(*services, seq=seq, token=token)
        return await self.expect(Registered)

    async def ask_to_register(
        self, *services: str, seq: int | None = None, token: Token | None = None
    ) -> None:
        """Register, and do not wait for what comes of it."""
        if self.challenge is None:
            await self.hello()
        location = encode_location(self.record(*services, seq=seq))
        self.send(self.signed_register(location, token))

    async def update(self, record: LocationRecord, entry: SignedEntry) -> Registered:
        """Replace the record by one whose only service is at one endpoint."""
        service = structs.replace(record.services[0], entries=(entry,))
        self.send(Update(encode_location(LocationRecord(record.seq, (service,)))))
        return await self.expect(Registered)

    def plane_target(self, ticket: str, relay_guid: str) -> str:
        proof = self.identity.sign(CONTEXT_PLANE, public_key_of(relay_guid), ticket.encode())
        signature = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        return f"/v1/plane/{ticket}?guid={self.identity.guid}&signature={signature}"


@asynccontextmanager
async def client(
    url: str, identity: Identity | None = None, source: str | None = None
) -> AsyncIterator[Client]:
    """Open a raw control connection; nothing is said on it yet."""
    reader, writer, status, body = await upgrade(url, "/v1/control", source)
    assert status == 101, body
    try:
        yield Client(identity or Identity.generate(), reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def registered(
    url: str,
    *services: str,
    identity: Identity | None = None,
    source: str | None = None,
    seq: int | None = None,
) -> AsyncIterator[Client]:
    """Open a control connection and register."""
    async with client(url, identity, source) as one:
        await one.register(*services, seq=seq)
        yield one
