"""TLS between two peers in memory: who is proven, and what is said of bytes that are none."""

import contextlib
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from peers.path.tls import TlsChannel, TlsContext
from protocol.errors import PathFailed
from tests.peers.roaming.fakes import HERE, THERE


def channels() -> tuple[TlsChannel, TlsChannel]:
    return TlsContext(HERE).channel(server=False), TlsContext(THERE).channel(server=True)


def shaken() -> tuple[TlsChannel, TlsChannel]:
    """Return both ends after their handshake."""
    client, server = channels()
    client.start()
    for _ in range(3):
        server.receive(client.to_send())
        client.receive(server.to_send())
    assert client.established
    assert server.established
    return client, server


def test_each_side_proves_its_key_to_the_other() -> None:
    client, server = shaken()
    assert (client.remote_guid, server.remote_guid) == (THERE.guid, HERE.guid)
    assert client.is_client
    assert client.began
    assert not server.is_client
    assert server.began == 0


@given(data=st.binary(min_size=1, max_size=100_000), size=st.integers(1, 30_000))
def test_what_is_sent_arrives_however_it_is_cut(data: bytes, size: int) -> None:
    client, server = shaken()
    client.send(data)
    wire = client.to_send()
    arrived = b"".join(
        server.receive(wire[start : start + size]) for start in range(0, len(wire), size)
    )
    assert arrived == data
    assert client.to_send() == b""


def test_the_end_is_said_and_heard_behind_what_was_sent() -> None:
    client, server = shaken()
    client.send(b"last words")
    client.end()
    assert server.receive(client.to_send()) == b"last words"
    assert server.ended
    server.end()
    client.receive(server.to_send())
    assert client.ended
    client.end()


def test_before_the_handshake_there_is_nothing_to_end() -> None:
    client, _ = channels()
    client.end()
    assert client.to_send() == b""
    client.start()
    client.end()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff"])
def test_bytes_that_are_no_tls_are_an_error_of_ours_or_not_enough_to_tell(data: bytes) -> None:
    _, server = channels()
    said = ""
    try:
        assert server.receive(data) == b""
    except PathFailed as error:
        said = error.reason
    assert said.startswith("TLS failed: ") or not said
    assert not server.established


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_bit_that_is_changed_on_the_way_is_noticed(at: int, bit: int) -> None:
    client, server = shaken()
    client.send(b"x" * 500)
    wire = bytearray(client.to_send())
    wire[at % len(wire)] ^= 1 << bit
    try:
        assert server.receive(bytes(wire)) == b""
    except PathFailed:
        return
    # A length that has grown: the rest never comes.
    assert not server.ended


def _other_key() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "not a peer")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate, key


@pytest.mark.parametrize("certified", [True, False])
def test_whoever_has_no_key_of_ours_is_no_peer(certified: bool) -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_verify(SSL.VERIFY_NONE, lambda *arguments: True)
    if certified:
        certificate, key = _other_key()
        context.use_certificate(certificate)
        context.use_privatekey(key)
    stranger = SSL.Connection(context, None)
    stranger.set_connect_state()
    server = TlsContext(THERE).channel(server=True)

    def talk() -> None:
        for _ in range(3):
            with contextlib.suppress(SSL.WantReadError):
                stranger.do_handshake()
            server.receive(stranger.bio_read(1 << 16))
            stranger.bio_write(server.to_send())

    with pytest.raises(PathFailed, match="Ed25519" if certified else "TLS failed"):
        talk()
    assert server.remote_guid == ""
