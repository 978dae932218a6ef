"""What one side of a path shows in TLS: an identity's own certificate, or one to be refused."""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from peers.conformance.faults import Fault
from protocol.identity import Identity, guid_of

__all__ = ["Credentials", "certificate_of", "guid_in", "odd_credentials", "own", "unwanted"]


_LONG_AGO = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A TLS context with them."""

    context: SSL.Context


def own(identity: Identity, *, newest: int | None = None) -> Credentials:
    """Return those of an identity; `newest` is the newest version of TLS that is spoken."""
    return _credentials(identity.certificate, identity.private_key, newest)


def odd_credentials(identity: Identity, other: Identity) -> Credentials:
    """Return those of an identity with a certificate of another name, over since long, signed by
    another: only its key counts."""
    certificate = (
        certificate_of(identity.private_key.public_key())
        .not_valid_after(_LONG_AGO.replace(day=2))
        .sign(other.private_key, None)
    )
    return _credentials(certificate, identity.private_key, None)


def unwanted(*, shows_certificate: bool) -> Credentials:
    """Return what no peer may take: a P-256 certificate, or none at all."""
    if not shows_certificate:
        return _credentials(None, None, None)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        certificate_of(key.public_key())
        .not_valid_after(_LONG_AGO.replace(year=9999))
        .sign(key, hashes.SHA256())
    )
    return _credentials(certificate, key, None)


def certificate_of(
    public: Ed25519PublicKey | ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    """Return a certificate to be signed."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(2)
        .not_valid_before(_LONG_AGO)
    )


def guid_in(certificate: x509.Certificate) -> str:
    """Return the GUID of a certificate's holder.

    Raises:
        Fault: it holds no Ed25519 key.
    """
    key = certificate.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise Fault(f"a certificate with a key of another kind: {type(key).__name__}")
    return guid_of(key.public_bytes_raw())


def _credentials(
    certificate: x509.Certificate | None,
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey | None,
    newest: int | None,
) -> Credentials:
    context = SSL.Context(SSL.TLS_METHOD)
    if newest is None:
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
    else:
        context.set_max_proto_version(newest)
    if certificate is not None and key is not None:
        context.use_certificate(certificate)
        context.use_privatekey(key)
    context.set_verify(
        SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *asked: asked[3] == 0
    )
    return Credentials(context)
