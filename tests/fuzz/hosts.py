"""What names a place: a relay's URL, a host, a proxy of the environment, a policy; and where a
relay sees somebody."""

import contextlib
import os

from yarl import URL

from peers.config import HostPort, Policy, PolicyError
from peers.host.rtnetlink import Dump, addresses_in, links_in
from peers.transport import RelayAddress
from peers.transport.proxies import proxy_for
from protocol.endpoint import Endpoint
from protocol.errors import ProtocolViolation, RelayUnavailable
from protocol.hosts import is_address, is_host
from protocol.observation import SIZE, answer_to, read_answer
from protocol.text import shown
from tests.fuzz.draws import Draw

__all__ = ["netlink", "observations", "places", "policies", "urls"]


def netlink(data: bytes) -> None:
    """What the kernel says of links and addresses, in two pieces: what can be read is an address of
    a link, and only a refusal is an error."""
    draw = Draw(data)
    at = draw.number(1024)
    rest = draw.rest()
    for pieces in ((rest,), (rest[:at], rest[at:])):
        dump = Dump()
        for piece in pieces:
            with contextlib.suppress(OSError):
                dump.feed(piece)
        links = {2: "eth0"} | links_in(dump)
        for one in addresses_in(dump, links):
            assert is_address(one.host)
            assert links[one.index] == one.interface
        assert dump.unreadable <= 2 * len(dump.bodies) + 2


def observations(data: bytes) -> None:
    """A question at a relay's second port, and an answer to it: what is answered is read."""
    asked, answer = data[:SIZE], data[SIZE:]
    for host in ("192.0.2.1", "2001:db8::1"):
        told = answer_to(asked, host, 9)
        if told is not None:
            assert len(told) == len(asked), "nobody gets more than was sent"
            assert read_answer(asked, told) == Endpoint(host, 9)
    with contextlib.suppress(ProtocolViolation):
        seen = read_answer(asked, answer)
        assert is_address(seen.host)
        assert 0 < seen.port < 65536


def urls(data: bytes) -> None:
    """A relay's URL, and a proxy's: what is taken can be dialed and said."""
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    for one in (text, f"http://{text}", f"https://{text}"):
        with contextlib.suppress(RelayUnavailable):
            address = RelayAddress(one)
            assert is_host(address.host)
            assert 0 < address.port < 65536
            address.authority.encode("ascii")
            address.target.encode("ascii")
            again = RelayAddress(str(address))
            assert (again.host, again.port) == (address.host, address.port)
    before = dict(os.environ)
    try:
        os.environ["http_proxy"] = text
        proxy = proxy_for(URL("http://relay.example:80"))
        assert proxy is None or is_host(proxy.host or "")
    finally:
        os.environ.clear()
        os.environ.update(before)


def places(data: bytes) -> None:
    """A host, a server, an endpoint."""
    draw = Draw(data)
    port = draw.number(70_000)
    text = draw.rest().decode("utf-8", "surrogateescape")
    if is_address(text):
        assert is_host(text)
    if is_host(text):
        assert shown(text) == text
        text.encode("idna")
    with contextlib.suppress(ProtocolViolation):
        server = HostPort.parse(text)
        assert HostPort.parse(str(server)) == server
    with contextlib.suppress(ProtocolViolation):
        endpoint = Endpoint.parse(text, port)
        assert Endpoint.parse(endpoint.host, endpoint.port) == endpoint


def policies(data: bytes) -> None:
    """A policy; what is wrong with it can be shown."""
    text = data.decode("utf-8", "surrogateescape")
    refused = ""
    try:
        policy = Policy.parse(text)
    except PolicyError as error:
        refused = str(error)
        policy = Policy()
    assert len(refused) < 2000 + 24 * len(text)
    assert policy.within is None or 0 < policy.within <= 3600
    assert Policy.parse(policy.text).rules == policy.rules
