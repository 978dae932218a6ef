"""A relay that serves https:// itself: both carriers, all modes, and a bad certificate."""

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from peers import Carrier, Identity, Mode, Peer, PeerConfig, RelayUnavailable
from relay.config import RelayConfig
from relay.server import RelayServer


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1 that is its own authority; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(chain), str(secret)


@pytest.mark.parametrize("carrier", list(Carrier))
@pytest.mark.parametrize("mode", list(Mode))
async def test_modes_over_https(certificate: tuple[str, str], carrier: Carrier, mode: Mode) -> None:
    chain, secret = certificate
    config = PeerConfig(carrier=carrier, relay_ca=chain)
    async with (
        RelayServer(RelayConfig(port=0, tls_certificate=chain, tls_key=secret)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as alice,
        Peer(Identity.generate(), relay.url, config=config) as bob,
    ):
        assert relay.url.startswith("https://")
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(alice.guid, "chat", mode=mode)
        there = await anext(listener)
        data = bytes(range(256)) * 4000
        await session.send(data)
        assert await there.receive() == data
        await there.send(b"back")
        assert await session.receive() == b"back"
        await session.close()


async def test_a_certificate_of_nobody_is_refused(certificate: tuple[str, str]) -> None:
    chain, secret = certificate
    async with RelayServer(RelayConfig(port=0, tls_certificate=chain, tls_key=secret)) as relay:
        config = PeerConfig(connect_timeout=2.0)
        with pytest.raises(RelayUnavailable, match=r"(?i)certificate"):
            async with Peer(Identity.generate(), relay.url, config=config):
                pass
