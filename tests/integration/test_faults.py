"""Real processes that are killed: what the others notice, and what they do not."""

import hashlib
import json
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support import scale
from tests.support.ports import free_port
from tests.support.processes import DEADLINE, KEEPS_NOTHING, fact, peer, relay

WINDOW = 2.0
CONFIG = f"[session]\nresume_window = {WINDOW}\nping_interval = 0.2\nsilence_limit = 0.6\n"


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Return the first line of standard error that holds a word."""
    assert process.stderr is not None
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        readable, _, _ = select.select([process.stderr], [], [], 1.0)
        if readable:
            line = process.stderr.readline()
            assert line, f"it ended before it said {word!r}"
            if word in line:
                return line
    raise AssertionError(f"it never said {word!r}")


def test_a_file_goes_on_through_a_relay_that_was_killed(tmp_path: Path) -> None:
    port = str(free_port())
    size = scale.of(384 << 20, 768 << 20)
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(size)
    there = tmp_path / "there"
    flags = ("--host", "127.0.0.1", "--port", port)
    with relay(tmp_path, *flags) as (url, first):
        a = ("--relay", url, "--key", str(tmp_path / "a.key"))
        b = ("--relay", url, "--key", str(tmp_path / "b.key"))
        with peer(*a, "receive", str(there), "--once", "--json") as receiving:
            guid = fact(receiving)["guid"]
            with peer(*b, "send", guid, str(file), "--mode", "central", "--json") as sending:
                end = time.monotonic() + DEADLINE
                while not any(part.stat().st_size for part in there.glob(".*.part")):
                    assert time.monotonic() < end
                    select.select([], [], [], 0.01)
                first.kill()
                first.wait(DEADLINE)
                lost = fact(sending)
                assert (lost["event"], lost["path"]) == ("path", "no path")
                with relay(tmp_path, *flags):
                    found = fact(sending)
                    assert found["event"] == "path"
                    assert found["path"].startswith("relayed")
                    sent = fact(sending)
                    while sent["event"] == "path":  # A busy machine may take one path for dead.
                        sent = fact(sending)
                    received = fact(receiving)
                    assert sending.wait(DEADLINE) == 0
                    assert receiving.wait(DEADLINE) == 0
    assert sent["bytes"] == received["bytes"] == size
    digest = hashlib.sha256()
    for _ in range(size >> 20):
        digest.update(bytes(1 << 20))
    assert sent["sha256"] == received["sha256"] == digest.hexdigest()
    assert [path.name for path in there.iterdir()] == ["large"]


def test_a_direct_session_does_not_notice_a_relay_that_was_killed(tmp_path: Path) -> None:
    with relay(tmp_path) as (url, process):
        a = ("--relay", url, "--key", str(tmp_path / "a.key"))
        b = ("--relay", url, "--key", str(tmp_path / "b.key"))
        with peer(*a, "listen", "chat", "--echo", "--json") as listening:
            guid = fact(listening)["guid"]
            with peer(*b, "connect", guid, "chat", "--mode", "p2p") as calling:
                read_until(calling, "connected")
                process.kill()
                process.wait(DEADLINE)
                assert calling.stdin is not None
                assert calling.stdout is not None
                for number in range(5):
                    calling.stdin.write(f"line {number}\n")
                    calling.stdin.flush()
                    readable, _, _ = select.select([calling.stdout], [], [], DEADLINE)
                    assert readable
                    assert calling.stdout.readline() == f"line {number}\n"
                calling.stdin.close()
                calling.stdin = None
                assert calling.wait(DEADLINE) == 0


def test_a_peer_that_was_killed_is_missed_after_the_resume_window(tmp_path: Path) -> None:
    config = tmp_path / "peer.toml"
    config.write_text(CONFIG)
    with relay(tmp_path) as (url, _):
        common = ("--config", str(config), "--relay", url, "--key")
        with peer(*common, str(tmp_path / "a.key"), "listen", "chat", "--json") as listening:
            guid = fact(listening)["guid"]
            with peer(*common, str(tmp_path / "b.key"), "connect", guid, "chat") as calling:
                read_until(calling, "connected")
                assert calling.stdin is not None
                calling.stdin.write("heard\n")
                calling.stdin.flush()
                assert listening.stdout is not None
                assert json.loads(listening.stdout.readline())["event"] == "session"
                assert json.loads(listening.stdout.readline())["text"] == "heard"
                listening.send_signal(signal.SIGKILL)
                listening.wait(DEADLINE)
                read_until(calling, "no path")
                for _ in range(3):
                    calling.stdin.write("never heard\n")
                calling.stdin.flush()
                line = read_until(calling, "peer:")
                assert f"no path for {WINDOW:g} s (3 messages were not acknowledged)" in line
                assert calling.wait(DEADLINE) == 11


def test_two_relays_on_one_port(tmp_path: Path) -> None:
    port = str(free_port())
    with relay(tmp_path, "--port", port):
        second = subprocess.run(
            [sys.executable, "-m", "relay", "serve", "--port", port, *KEEPS_NOTHING],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert second.returncode == 1
        assert f"port {port}" in second.stderr
        assert "Traceback" not in second.stderr
