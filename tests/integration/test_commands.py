"""The two commands as a user runs them: three processes, every mode, carrier and IP version."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from peers import Identity
from tests.support.processes import environment, fact, peer, relay, run_peer, stop

MODES = ["p2p", "central", "combined"]
GIB = 1 << 30


def plane_bytes(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.findall(r"^roam_relay_plane_bytes_total\{.*\} (.+)$", text, re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("carrier", ["raw", "websocket"])
def test_every_mode_between_processes(tmp_path: Path, host: str, carrier: str) -> None:
    with relay(tmp_path, "--host", host) as (url, _):
        common = ("--relay", url, "--carrier", carrier)
        with peer(
            *common, "--key", str(tmp_path / "a.key"), "listen", "ping", "--echo", "--json"
        ) as one:
            guid = fact(one)["guid"]
            for mode in MODES:
                before = plane_bytes(url)
                done = run_peer(
                    *common,
                    "--key",
                    str(tmp_path / "b.key"),
                    "ping",
                    guid,
                    "--mode",
                    mode,
                    "--json",
                )
                assert done.returncode == 0, done.stderr
                result = json.loads(done.stdout)
                assert result["mode"] == mode
                assert len(result["round_trips"]) == 4
                assert result["path"].startswith("relayed" if mode == "central" else "direct")
                assert (plane_bytes(url) > before) == (mode == "central")
            assert stop(one) == 130


@pytest.mark.parametrize("mode", MODES)
def test_a_gibibyte_arrives_whole_with_flat_memory(tmp_path: Path, mode: str) -> None:
    big = tmp_path / "big"
    block = os.urandom(1 << 20)
    with big.open("wb") as file:
        for number in range(GIB >> 20):
            file.write(number.to_bytes(4) + block[4:])
    with big.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    with (
        relay(tmp_path) as (url, relaying),
        peer(
            "--relay",
            url,
            "--key",
            str(tmp_path / "a.key"),
            "receive",
            str(tmp_path / "in"),
            "--json",
        ) as receiving,
    ):
        guid = fact(receiving)["guid"]
        sender = ("--relay", url, "--key", str(tmp_path / "b.key"), "send", guid, str(big))
        with peer(*sender, "--mode", mode, "--json") as sending:
            processes = [psutil.Process(one.pid) for one in (relaying, receiving, sending)]
            peaks = [0, 0, 0]
            while sending.poll() is None:
                for index, process in enumerate(processes):
                    try:
                        peaks[index] = max(peaks[index], process.memory_info().rss)
                    except psutil.NoSuchProcess:
                        break
                try:
                    sending.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
            sent = fact(sending)
            assert sending.returncode == 0
        received = fact(receiving)
        assert sent["sha256"] == received["sha256"] == expected
        assert received["bytes"] == GIB
        relayed = plane_bytes(url)
        assert (relayed > GIB) == (mode == "central")
        # An interpreter with the libraries has about 60 MiB; the windows and buffers add tens.
        assert max(peaks) < 160 << 20, [peak >> 20 for peak in peaks]
    big.unlink()


def test_failures_have_one_line_and_their_exit_code(tmp_path: Path) -> None:
    key = str(tmp_path / "a.key")
    nobody = Identity.generate().guid
    with relay(tmp_path) as (url, _):
        base = ("--relay", url, "--key", key)
        cases = [
            (("--key", key, "locate", nobody, "chat"), 3),
            (("--relay", "ftp://x", "--key", key, "locate", nobody, "chat"), 3),
            ((*base, "locate", nobody, "chat"), 4),
            ((*base, "connect", nobody, "chat"), 4),
            ((*base, "locate", "not-a-guid", "chat"), 2),
            ((*base, "listen", "Not A Service"), 2),
            (("--config", str(tmp_path / "none.toml"), "id"), 2),
        ]
        for arguments, code in cases:
            done = run_peer(*arguments)
            assert done.returncode == code, (arguments, done)
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
            assert done.stderr.startswith("peer: ")
    Path(key).chmod(0o644)
    done = run_peer("--key", key, "id")
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_config_files_name_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for text, said in [
        ("mode = 'fast'", "mode"),
        ("colour = 1", "colour"),
        ("port = ", "Invalid"),
    ]:
        file.write_text(text)
        done = run_peer("--config", str(file), "id")
        assert done.returncode == 2
        assert said in done.stderr
        served = subprocess.run(
            [sys.executable, "-m", "relay", "serve", "--config", str(file)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=environment(),
        )
        assert served.returncode == 1
        assert str(file) in served.stderr
        assert "Traceback" not in served.stderr


def test_talk_and_locate(tmp_path: Path) -> None:
    with (
        relay(tmp_path) as (url, _),
        peer("--relay", url, "--key", str(tmp_path / "a.key"), "listen", "chat", "--json") as one,
    ):
        guid = fact(one)["guid"]
        base = ("--relay", url, "--key", str(tmp_path / "b.key"))
        found = json.loads(run_peer(*base, "locate", guid, "chat", "--json").stdout)
        assert found["state"] == "online"
        assert found["endpoints"][0]["host"] == "127.0.0.1"
        assert "127.0.0.1" in run_peer(*base, "locate", guid, "chat").stdout
        with peer(*base, "connect", guid, "chat") as two:
            assert two.stdin is not None
            assert one.stdin is not None
            assert one.stdout is not None
            assert two.stdout is not None
            two.stdin.write("hello\n")
            two.stdin.flush()
            assert fact(one)["event"] == "session"
            assert one.stdout.readline() == "hello\n"
            one.stdin.write("hello yourself\n")
            one.stdin.flush()
            assert two.stdout.readline() == "hello yourself\n"
            two.stdin.close()
            assert two.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_relay_drains_and_exits_with_zero(tmp_path: Path, number: signal.Signals) -> None:
    key = tmp_path / "relay.key"
    made = subprocess.run(
        [sys.executable, "-m", "relay", "key", str(key)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=environment(),
    )
    assert key.stat().st_mode & 0o777 == 0o600
    with relay(tmp_path, "--identity", str(key), "--log-format", "json") as (url, process):
        assert url.startswith("http://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        events = [json.loads(line) for line in process.stderr]
        assert [event["event"] for event in events] == ["serving", "draining", "stopped"]
        assert events[0]["relay"] == made.stdout.strip()
