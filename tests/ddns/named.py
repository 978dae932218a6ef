"""A real BIND 9 for tests: on loopback, a high port, and a folder of its own."""

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import dns.tsig
import pytest

ZONE = "peers.example.org"
_DOCS = Path(__file__).parents[2] / "docs" / "ddns.md"
_ZONE_FILE = f"""\
$TTL 30
@ SOA ns.{ZONE}. hostmaster.{ZONE}. 1 60 60 3600 5
@ NS ns.{ZONE}.
ns A 127.0.0.1
"""


def need(tool: str) -> str:
    """Return the path of a program; skip where there is none, unless nothing may be skipped."""
    found = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("LAB_REQUIRED"):
            pytest.fail(f"{tool} is needed here: Debian's bind9 and bind9-dnsutils have it")
        pytest.skip(f"{tool} is not installed (Debian: bind9, bind9-dnsutils)")
    return found


def documented_configuration(keys: Sequence[dns.tsig.Key]) -> str:
    """Return the configuration that docs/ddns.md shows, with the keys of a test."""
    found = re.search(r"<!-- named\.conf -->\n```\n(.*?)```", _DOCS.read_text(), re.DOTALL)
    assert found is not None
    text = found[1]
    shown = re.search(r'key "GUID.*?\n};\n', text, re.DOTALL)
    assert shown is not None
    made = ""
    for key in keys:
        part = key.name.to_text(omit_final_dot=True)
        secret = base64.b64encode(key.secret).decode()
        made += shown[0].replace("GUID.peers.example.org", part).replace("SECRET", secret)
    return text.replace(shown[0], made)


def free_port() -> int:
    """Return a port that is free for UDP and TCP."""
    for _ in range(50):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no free port")


class Named:
    """A running name server."""

    def __init__(self, folder: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.port = port
        self.process = process

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def pause(self) -> None:
        """It is silent from now on."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It answers again."""
        self.process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def named(
    folder: Path, keys: Sequence[dns.tsig.Key], *, wrapper: Sequence[str] = ()
) -> AsyncIterator[Named]:
    """Run BIND with the documented configuration."""
    program = need("named")
    port = free_port()
    (folder / f"{ZONE}.zone").write_text(_ZONE_FILE)
    (folder / "named.conf").write_text(
        f"""\
options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    pid-file none;
    session-keyfile "{folder}/session.key";
    querylog no;
}};
controls {{ }};
"""
        + documented_configuration(keys)
    )
    log = (folder / "named.log").open("wb")
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and waits for nothing.
        [*wrapper, program, "-g", "-n", "1", "-c", str(folder / "named.conf")],
        stdout=log,
        stderr=log,
        cwd=folder,
    )
    try:
        end = time.monotonic() + 20
        while b"running" not in (folder / "named.log").read_bytes():
            assert process.poll() is None, (folder / "named.log").read_text()
            assert time.monotonic() < end, (folder / "named.log").read_text()
            await asyncio.sleep(0.02)
        yield Named(folder, port, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        log.close()
