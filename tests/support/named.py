"""A real BIND 9 for tests: on loopback, a high port, and a folder of its own."""

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dns.tsig
import pytest

from tests.support import processes
from tests.support.ports import free_port

ZONE = "peers.example.org"
DOCS = Path(__file__).parents[2] / "docs" / "ddns.md"
ZONE_FILE = f"""\
$TTL 30
@ SOA ns.{ZONE}. hostmaster.{ZONE}. 1 60 60 3600 5
@ NS ns.{ZONE}.
ns A 127.0.0.1
"""


def need(tool: str, packages: str = "bind9, bind9-dnsutils") -> str:
    """Return the path of a program; skip where there is none, unless nothing may be skipped."""
    found = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("LAB_REQUIRED"):
            pytest.fail(f"{tool} is needed here: Debian's {packages}")
        pytest.skip(f"{tool} is not installed (Debian: {packages})")
    return found


def documented_configuration(keys: Sequence[dns.tsig.Key]) -> str:
    """Return the configuration that docs/ddns.md shows, with the keys of a test."""
    found = re.search(r"<!-- named\.conf -->\n```\n(.*?)```", DOCS.read_text(), re.DOTALL)
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


class Named:
    """A running name server."""

    def __init__(self, host: str, port: int, process: subprocess.Popen[bytes]) -> None:
        self.host = host
        self.port = port
        self.process = process

    @property
    def server(self) -> str:
        return f"{self.host}:{self.port}"

    def pause(self) -> None:
        """It is silent from now on: when this returns, each of its threads has stopped."""
        processes.stand_still(self.process.pid)

    def resume(self) -> None:
        """It answers again."""
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A server that has ended when this does."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def named(
    folder: Path,
    keys: Sequence[dns.tsig.Key],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    records: str = "",
    command: Callable[..., list[str]] = lambda *words: list(words),
) -> Iterator[Named]:
    """Run BIND with the documented configuration; `records` are in its zone from the start,
    `command` may put it into a namespace."""
    with contextlib.ExitStack() as running:
        for _ in range(5):
            chosen = port or free_port()
            process = running.enter_context(_process(folder, keys, host, chosen, records, command))
            if port or b"address in use" not in (folder / "named.log").read_bytes():
                break
            running.close()  # Somebody has taken that port meanwhile.
        yield Named(host, chosen, process)


@contextlib.contextmanager
def _process(
    folder: Path,
    keys: Sequence[dns.tsig.Key],
    host: str,
    port: int,
    records: str,
    command: Callable[..., list[str]],
) -> Iterator[subprocess.Popen[bytes]]:
    program = need("named")
    (folder / f"{ZONE}.zone").write_text(ZONE_FILE + records)
    (folder / "named.conf").write_text(
        f"""\
options {{
    directory "{folder}";
    listen-on port {port} {{ {host}; }};
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
    with (folder / "named.log").open("wb") as log:
        process = subprocess.Popen(
            command(program, "-g", "-n", "1", "-c", str(folder / "named.conf")),
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        with stopped(process):
            end = time.monotonic() + 20
            while b" running\n" not in (folder / "named.log").read_bytes():
                assert process.poll() is None, (folder / "named.log").read_text()
                assert time.monotonic() < end, (folder / "named.log").read_text()
                time.sleep(0.02)
            yield process
