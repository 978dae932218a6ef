"""The relay's certificate: what is wrong with its files is said, and a new one is shown."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from relay.config import ConfigError, RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate

Files = tuple[Path, Path]


def made(folder: Path) -> Files:
    folder.mkdir(exist_ok=True)
    chain, key = certificate(folder)
    return Path(chain), Path(key)


def locked(chain: Path, key: Path) -> None:
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS: list[tuple[Callable[[Path, Path], object], str]] = [
    (lambda chain, key: pipe(key), r"tls_key: cannot read \S+key.pem: it is not a file"),
    (lambda chain, key: pipe(chain), r"tls_certificate: cannot read \S+: it is not a file"),
    (lambda chain, key: folder(chain), r"tls_certificate: cannot read \S+: Is a directory"),
    (lambda chain, key: key.unlink(), r"tls_key: cannot read \S+key.pem: No such file"),
    (lambda chain, key: chain.write_text(""), r"tls_certificate: \S+ holds no whole certificate"),
    (lambda chain, key: chain.write_bytes(key.read_bytes()), r"tls_certificate: \S+ holds no"),
    (lambda chain, key: key.write_bytes(chain.read_bytes()), r"tls_key: \S+ holds no whole"),
    (lambda chain, key: key.write_bytes(key.read_bytes()[:99]), r"tls_key: \S+ holds no whole"),
    (lambda chain, key: key.write_bytes(made(key.parent / "b")[1].read_bytes()), "is not the key"),
    (locked, r"tls_key: \S+ is locked with a password: .*openssl pkey"),
    (lambda chain, key: key.chmod(0o602), r"everybody may write \S+ .*chmod 600"),
]


@pytest.mark.parametrize(("fault", "says"), FAULTS)
async def test_the_file_that_is_wrong_is_named_with_what_is_wrong(
    tmp_path: Path, fault: Callable[[Path, Path], object], says: str
) -> None:
    chain, key = made(tmp_path / "a")
    fault(chain, key)
    config = RelayConfig(port=0, tls_certificate=str(chain), tls_key=str(key))
    with pytest.raises(ConfigError, match=says) as refused:
        async with RelayServer(config):
            pass
    assert "SSL" not in str(refused.value)


async def test_a_key_that_everybody_may_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, key = made(tmp_path)
    config = RelayConfig(port=0, tls_certificate=str(chain), tls_key=str(key))
    for mode, count in ((0o640, 0), (0o644, 1)):
        key.chmod(mode)
        async with RelayServer(config):
            assert caplog.text.count("everybody may read the TLS key") == count


async def shown(relay: RelayServer) -> bytes:
    """Return the certificate that a newcomer sees."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = int(relay.url.rpartition(":")[2])
    async with asyncio.timeout(60):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
    assert isinstance(found, bytes)
    return found


def der(chain: Path) -> bytes:
    read = x509.load_pem_x509_certificate(chain.read_bytes())
    return read.public_bytes(serialization.Encoding.DER)


async def test_a_renewed_certificate_is_shown_and_a_broken_one_is_not(tmp_path: Path) -> None:
    chain, key = made(tmp_path / "a")
    config = RelayConfig(port=0, tls_certificate=str(chain), tls_key=str(key))
    async with RelayServer(config) as relay:
        first = der(chain)
        assert await shown(relay) == first
        chain.write_bytes(made(tmp_path / "b")[0].read_bytes())
        with pytest.raises(ConfigError, match="is not the key of"):
            relay.reload(config)
        assert await shown(relay) == first
        key.write_bytes((tmp_path / "b" / "key.pem").read_bytes())
        assert relay.reload(config) == ()
        assert await shown(relay) == der(chain) != first


def offered(relay: RelayServer, **settings: object) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    return context


async def test_the_listener_speaks_modern_tls_and_http_1(tmp_path: Path) -> None:
    chain, key = made(tmp_path)
    config = RelayConfig(port=0, tls_certificate=str(chain), tls_key=str(key))
    async with RelayServer(config) as relay:
        port = int(relay.url.rpartition(":")[2])

        async def speak(context: ssl.SSLContext) -> ssl.SSLObject:
            async with asyncio.timeout(60):
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                found = writer.get_extra_info("ssl_object")
                writer.close()
                await writer.wait_closed()
            assert isinstance(found, ssl.SSLObject)
            return found

        both = offered(relay)
        both.set_alpn_protocols(["h2", "http/1.1"])
        for _ in range(2):
            spoken = await speak(both)
            assert (spoken.version(), spoken.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            relay.reload(config)  # As well of a certificate that was read later.
        older = offered(relay, maximum_version=ssl.TLSVersion.TLSv1_2)
        cipher = (await speak(older)).cipher()
        assert cipher is not None
        assert cipher[0].startswith("ECDHE-")
        older.set_ciphers("AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await speak(older)


async def test_files_that_change_are_read_once_they_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "relay")
    chain, key = made(tmp_path / "a")
    config = RelayConfig(port=0, tls_certificate=str(chain), tls_key=str(key))
    newer, secret = made(tmp_path / "b")
    async with RelayServer(config) as relay:
        certificate = relay._certificate
        assert certificate is not None
        now = time.time()
        certificate.look(now)
        assert await shown(relay) == der(chain)
        first = der(chain)
        # The chain is there, its key not yet: nothing is said as long as they change.
        chain.write_bytes(newer.read_bytes())
        certificate.look(now)
        assert await shown(relay) == first
        key.write_bytes(secret.read_bytes())
        certificate.look(now)
        assert "not shown" not in caplog.text
        certificate.look(now)
        assert await shown(relay) == der(newer) != first
        assert "shown anew" in caplog.text
        # What stays broken is told once, and changes nothing.
        key.write_text("no key")
        for _ in range(4):
            certificate.look(now)
        assert caplog.text.count("the changed certificate is not shown") == 1
        assert await shown(relay) == der(newer)
        # By a link that leads elsewhere, as some renew them.
        chain.unlink()
        key.unlink()
        third, third_key = made(tmp_path / "c")
        chain.symlink_to(third)
        key.symlink_to(third_key)
        for _ in range(2):
            certificate.look(now)
        assert await shown(relay) == der(third)


async def test_an_end_that_is_near_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, key = certificate(tmp_path, days=30)
    config = RelayConfig(port=0, tls_certificate=chain, tls_key=key)
    async with RelayServer(config) as relay:
        found, now = relay._certificate, time.time()
        assert found is not None
        told = []
        for day in range(0, 320):
            caplog.clear()
            found.look(now + day * 8640.0)
            told += [day / 10] * caplog.text.count("the certificate ")
        assert told == [16.0, 27.0, 29.0, 30.0] or told == [16.1, 27.1, 29.1, 30.1]
        assert "has ended" not in caplog.text
        assert b'roam_relay_certificate_seconds{state="left"} 2.5' in relay.metrics.exposition()[0]
    caplog.clear()
    chain, key = certificate(tmp_path, days=0.5)
    async with RelayServer(config):
        assert caplog.text.count("the certificate ends soon") == 1
