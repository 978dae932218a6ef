"""The port of the nats-server between the processes: nobody else gets it."""

import socket
import subprocess
from pathlib import Path

import pytest

from relay.nodes import nats


def test_its_port_is_kept_for_it_and_taken_for_others(tmp_path: Path) -> None:
    with nats.hold_port() as held:
        port = held.getsockname()[1]
        backbone = nats.prepare(str(tmp_path), port, keeps=False)
        assert backbone.url == f"nats://127.0.0.1:{port}"
        for _ in range(2):  # As often as it is started.
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
            process = subprocess.Popen(nats.command(str(tmp_path)))
            try:
                greeting = b""
                while process.poll() is None and not greeting:
                    try:
                        with socket.create_connection(("127.0.0.1", port), 60) as there:
                            greeting = there.recv(64)
                    except ConnectionRefusedError:
                        continue
                assert greeting.startswith(b"INFO "), "it listens there"
            finally:
                process.kill()
                process.wait()
