"""Whoever listens where the nats-server of `--nodes` was, or between a node and a `tls://` address,
is told nothing: no password, and no word of the protocol."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.config import RelayConfig
from relay.nodes import nats
from relay.nodes.certificate import loopback_certificate
from relay.nodes.division import Place, assignment
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, joined

INFO = {"server_id": "x", "version": "2.15.1", "max_payload": 1 << 20, "headers": True}
NEEDS = {"auth_required": True, "nonce": "x" * 22}
SAYS = {
    "no TLS": INFO | NEEDS,
    "TLS of its own": INFO | NEEDS | {"tls_required": True, "tls_verify": False},
}


class Impostor:
    """Takes every connection at a port, and keeps what it is told."""

    def __init__(self, says: dict[str, object], folder: Path) -> None:
        self._says = b"INFO %s\r\n" % json.dumps(says).encode()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if "tls_required" in says else None
        if self._tls is not None:
            files = folder / "impostor.crt", folder / "impostor.key"
            for file, data in zip(files, loopback_certificate("127.0.0.1"), strict=True):
                file.write_bytes(data)
            self._tls.load_cert_chain(*files)
        self.told = b""
        self.over: asyncio.Queue[None] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            writer.write(self._says)
            if self._tls is not None:
                await writer.start_tls(self._tls)
            while data := await reader.read(1 << 16):
                self.told += data
        self.over.put_nowait(None)

    @contextlib.asynccontextmanager
    async def listens(self, port: int) -> AsyncIterator[None]:
        """Listen as anybody can, where others merely have the port."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", port, reuse_address=True)
        async with server:
            yield


@pytest.mark.expected_errors("SSL handshake failed")
@pytest.mark.parametrize("kind", SAYS)
async def test_an_impostor_at_the_port_is_told_nothing(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "nats"
    folder.mkdir(mode=0o700)
    with nats.hold_port() as held:
        port = held.getsockname()[1]
        backbone = nats.prepare(str(folder), port, keeps=False)
        place = Place(str(tmp_path), "", None, 0, 0, backbone)
        cluster = assignment(RelayConfig(), "node-1", place).config.cluster
        impostor = Impostor(SAYS[kind], tmp_path)
        async with RelayServer(RelayConfig(port=0, cluster=cluster)) as relay:
            async with impostor.listens(port), asyncio.timeout(TIMEOUT):
                await impostor.over.get()
                assert relay.cluster is not None
                assert not relay.cluster.is_in
            assert impostor.told == b"", "it was told something"
            server = await asyncio.create_subprocess_exec(*nats.command(str(folder)))
            try:
                await joined(relay, nodes=1)
            finally:
                server.kill()
                await server.wait()
