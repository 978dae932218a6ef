"""The port of the nats-server between the processes, which nobody else gets, and its disk."""

import socket
import subprocess
from pathlib import Path

import pytest

from relay.nodes import nats
from tests.support.full_disk import full_disk


def test_its_port_is_kept_for_it_and_taken_for_others(tmp_path: Path) -> None:
    with nats.hold_port() as held:
        port = held.getsockname()[1]
        backbone = nats.prepare(str(tmp_path), port, keeps=False)
        assert backbone.url == f"tls://127.0.0.1:{port}"
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


def test_there_is_room_where_a_mebibyte_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not nats.has_room(str(tmp_path / "nowhere"))
    with full_disk():
        assert not nats.has_room(str(tmp_path))
    clock = iter((0.0, 0.9, 0.0, 1.1))  # A disk that is slow is no reason for a new start.
    monkeypatch.setattr(nats, "monotonic", lambda: next(clock))
    assert nats.has_room(str(tmp_path))
    assert not nats.has_room(str(tmp_path))
    assert not list(tmp_path.iterdir())
