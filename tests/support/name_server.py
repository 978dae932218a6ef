"""A name server that says what a test wants: on loopback, in the test's own process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import dns.message
import dns.rrset

from peers.config.host_port import HostPort

Answer = Callable[[dns.message.Message], list[bytes]]


class NameServer(asyncio.DatagramProtocol):
    """A name server that answers each question with the datagrams that a test makes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query.question[0].to_text())
        for wire in self.answer(query):
            self.transport.sendto(wire, addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def fake(
    answer: Answer, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[HostPort, NameServer]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: NameServer(answer), local_addr=(host, 0)
    )
    try:
        yield HostPort(host, transport.get_extra_info("sockname")[1]), protocol
    finally:
        transport.close()


def answered(query: dns.message.Message, *data: str, ttl: int = 30) -> bytes:
    """Return an answer with these records to a question of their type; nothing to others."""
    response = dns.message.make_response(query)
    question = query.question[0]
    found = [text.partition(" ")[2] for text in data if _is(question, text)]
    if found:
        response.answer.append(
            dns.rrset.from_text_list(question.name, ttl, "IN", question.rdtype, found)
        )
    return response.to_wire(max_size=65535)


def _is(question: dns.rrset.RRset, text: str) -> bool:
    return question.to_text().endswith(" " + text.partition(" ")[0])
