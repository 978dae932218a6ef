"""The kernel's own rate of connections for each source, as docs/deploy.md sets it up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.network import LabUnavailable, network
from tests.support.proxies import configuration

_HOST = """
import socket, subprocess, sys
subprocess.run(["nft", "-f", sys.argv[1]], check=True)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
relay = socket.create_server(("0.0.0.0", 8440), backlog=4096)
def come(source, many):
    tries = []
    for _ in range(many):
        one = socket.socket()
        one.bind((source, 0))
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", 8440))
        tries.append(one)
    relay.setblocking(False)
    came = 0
    try:
        while True:
            relay.accept()[0].close()
            came += 1
    except BlockingIOError:
        return came
print(come("127.0.0.66", 2500), come("127.0.0.1", 10))
"""


def test_a_flood_from_one_source_does_not_fill_the_backlog(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text(configuration("nftables"))
    try:
        with network() as net:
            net.host("relay")
            done = subprocess.run(
                [*net["relay"].command(), sys.executable, "-c", _HOST, str(rules)],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
    flood, honest = map(int, done.stdout.split())
    assert 1000 <= flood < 2500
    assert honest == 10
