"""The two commands as a user runs them: every mode, carrier and IP version, and every exit code.

Each command is a process of its own once; what is tried over and over runs in this one.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from peers import Identity, Peer
from relay.config import ConfigError as RelayConfigError
from relay.config import RelayConfig, load
from relay.server import RelayServer
from tests.peers.cli import commands
from tests.relay.certificates import certificate
from tests.support import scale
from tests.support.processes import environment, fact, peer, relay, run_peer, stop

MODES = ["p2p", "central", "combined"]
BIG = scale.of(384 << 20, 1 << 30)
"""Bytes: several times what any of the three processes may hold."""


class Service(NamedTuple):
    """`peer listen chat --echo --json` beside a relay, each a process."""

    relay: str
    guid: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that all processes here may call; Ctrl-C ends it with its exit code."""
    folder = tmp_path_factory.mktemp("service")
    with relay(folder) as (url, _):
        ours = ("--relay", url, "--key", str(folder / "a.key"))
        with peer(*ours, "listen", "chat", "--echo", "--json") as process:
            yield Service(url, str(fact(process)["guid"]))
            assert stop(process) == 130


def command(service: Service, folder: Path, *words: str) -> list[str]:
    """Return the words of another `peer` command beside the service."""
    base = [sys.executable, "-m", "peers", "--relay", service.relay]
    return [*base, "--key", str(folder / "b.key"), *words]


def plane_bytes(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.findall(r"^roam_relay_plane_bytes_total\{.*\} (.+)$", text, re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("carrier", ["raw", "websocket"])
async def test_every_mode_between_peers(tmp_path: Path, host: str, carrier: str) -> None:
    async with RelayServer(RelayConfig(port=0, host=host)) as server:
        common = ("--relay", server.url, "--carrier", carrier)
        ours = (*common, "--key", str(tmp_path / "a.key"))
        async with commands.peer(*ours, "listen", "ping", "--echo", "--json") as one:
            guid = (await one.fact())["guid"]
            for mode in MODES:
                before = await asyncio.to_thread(plane_bytes, server.url)
                theirs = (*common, "--key", str(tmp_path / "b.key"))
                code, out, err = await commands.run_peer(
                    *theirs, "ping", guid, "--mode", mode, "--json"
                )
                assert code == 0, err
                result = json.loads(out)
                assert result["mode"] == mode
                assert len(result["round_trips"]) == 4
                assert result["path"].startswith("relayed" if mode == "central" else "direct")
                after = await asyncio.to_thread(plane_bytes, server.url)
                assert (after > before) == (mode == "central")


def test_ping_is_a_process_too(service: Service, tmp_path: Path) -> None:
    theirs = ("--relay", service.relay, "--key", str(tmp_path / "b.key"))
    done = run_peer(*theirs, "ping", service.guid, "chat", "--json")
    assert done.returncode == 0, done.stderr
    milliseconds = [trip * 1000 for trip in json.loads(done.stdout)["round_trips"]]
    assert len(milliseconds) == 4
    # The clock has more than whole ones, which is what the loop's has.
    assert any(abs(trip - round(trip)) > 1e-6 for trip in milliseconds)


@pytest.mark.parametrize("mode", MODES)
async def test_64_mebibytes_arrive_whole(tmp_path: Path, mode: str) -> None:
    size = 64 << 20
    source = tmp_path / "source"
    data = os.urandom(size)
    source.write_bytes(data)
    async with RelayServer(RelayConfig(port=0)) as server:
        ours = ("--relay", server.url, "--key", str(tmp_path / "a.key"))
        theirs = ("--relay", server.url, "--key", str(tmp_path / "b.key"))
        async with commands.peer(*ours, "receive", str(tmp_path / "in"), "--json") as receiving:
            guid = (await receiving.fact())["guid"]
            words = ("send", guid, str(source), "--mode", mode, "--json")
            code, out, err = await commands.run_peer(*theirs, *words)
            assert code == 0, err
            sent, received = json.loads(out), await receiving.fact()
        assert sent["sha256"] == received["sha256"] == hashlib.sha256(data).hexdigest()
        assert sent["bytes"] == received["bytes"] == size
        assert Path(received["file"]).read_bytes() == data
        relayed = await asyncio.to_thread(plane_bytes, server.url)
        assert (relayed > size) == (mode == "central")
    source.unlink()


def test_a_big_file_arrives_whole_with_flat_memory(tmp_path: Path) -> None:
    mode = "central"  # The one in which all three hold what is under way.
    big = tmp_path / "big"
    rest = os.urandom((1 << 20) - 4)
    digest = hashlib.sha256()
    with big.open("wb") as file:
        for number in range(BIG >> 20):
            block = number.to_bytes(4) + rest
            file.write(block)
            digest.update(block)
    expected = digest.hexdigest()
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
        assert received["bytes"] == BIG
        relayed = plane_bytes(url)
        assert relayed > BIG
        # An interpreter with the libraries has about 60 MiB; the windows and buffers add tens.
        assert max(peaks) < 160 << 20, [peak >> 20 for peak in peaks]
    big.unlink()


async def test_failures_have_one_line_and_their_exit_code(tmp_path: Path) -> None:
    key = str(tmp_path / "a.key")
    nobody = Identity.generate().guid
    async with RelayServer(RelayConfig(port=0)) as server:
        base = ("--relay", server.url, "--key", key)
        cases = [
            (("--key", key, "locate", nobody, "chat"), 3),
            (("--relay", "ftp://x", "--key", key, "locate", nobody, "chat"), 3),
            ((*base, "locate", nobody, "chat"), 4),
            ((*base, "connect", nobody, "chat"), 4),
            ((*base, "locate", "not-a-guid", "chat"), 2),
            ((*base, "listen", "Not A Service"), 2),
            (("--config", str(tmp_path / "none.toml"), "id"), 2),
        ]
        for arguments, expected in cases:
            code, _, err = await commands.run_peer(*arguments)
            assert code == expected, (arguments, err)
            assert len(err.strip().splitlines()) == 1, err
            assert err.startswith("peer: ")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
async def test_a_host_that_has_no_more_to_give_is_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Peer, "__aenter__", refuse)
    words = ("--relay", "http://127.0.0.1:1", "--key", str(tmp_path / "a.key"), "listen", "chat")
    said = f"peer: the system has no more to give: {os.strerror(number)}\n"
    assert await commands.run_peer(*words) == (1, "", said)


@pytest.mark.parametrize(
    ("home", "says"), [("", "HOME is empty"), ("/proc", "cannot make /proc"), (None, "")]
)
async def test_no_place_for_the_key_is_one_line(
    home: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path) if home is None else home)
    monkeypatch.delenv("XDG_DATA_HOME")
    if home is None:  # As far as the folder, which is a pipe.
        (tmp_path / ".local" / "share").mkdir(parents=True)
        os.mkfifo(tmp_path / ".local" / "share" / "roam-relay")
        says = "cannot make"
    code, _, err = await commands.run_peer("id")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert err.startswith("peer: no place for the key, give --key or --state: ")
    assert says in err


SAYS = r"""
import os, sys
import peers.cli, relay.cli
wrong = os.fsdecode(b"/none/\xe6\x97\xa5 caf\xe9\x1b[31m")
for package, *words in (
    [peers, "-h"], [peers, "listen", "-h"], [peers, wrong], [peers, "--config", wrong, "id"],
    [peers, "--key", wrong, "id"], [relay, "-h"], [relay, "serve", "-h"], [relay, wrong],
    [relay, "serve", "--config", wrong], [relay, "serve", "--identity", wrong],
    [relay, "key", wrong],
):
    sys.argv[1:] = words
    try:
        package.cli.main()
    except SystemExit as ended:
        print("ended", type(ended.code).__name__)
"""
"""All that the commands print by themselves: help, wrong use, wrong files."""


def test_output_that_is_not_utf_8_is_no_error() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", SAYS],
        env=environment() | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"ended int") == 11
    assert b"\x1b" not in done.stdout + done.stderr


def test_a_failure_of_the_process_has_its_line_and_its_exit_code(tmp_path: Path) -> None:
    key = tmp_path / "a.key"
    Identity.load_or_create(key)
    key.chmod(0o644)
    done = run_peer("--key", str(key), "id")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("peer: ")
    assert "chmod 600" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"), [("mode = 'fast'", "mode"), ("colour = 1", "colour"), ("port = ", "Invalid")]
)
async def test_config_files_name_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    code, _, err = await commands.run_peer("--config", str(file), "id")
    assert code == 2
    assert said in err
    assert str(file) in err
    with pytest.raises(RelayConfigError) as refused:
        load(str(file), {}, {})
    assert str(file) in str(refused.value)


def test_a_relay_with_a_wrong_config_file_names_it(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("colour = 1")
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


async def test_talk_and_locate(tmp_path: Path) -> None:
    async with RelayServer(RelayConfig(port=0)) as server:
        ours = ("--relay", server.url, "--key", str(tmp_path / "a.key"))
        theirs = ("--relay", server.url, "--key", str(tmp_path / "b.key"))
        async with commands.peer(*ours, "listen", "chat", "--json") as one:
            guid = (await one.fact())["guid"]
            _, out, _ = await commands.run_peer(*theirs, "locate", guid, "chat", "--json")
            found = json.loads(out)
            assert found["state"] == "online"
            assert found["endpoints"][0]["host"] == "127.0.0.1"
            assert "127.0.0.1" in (await commands.run_peer(*theirs, "locate", guid, "chat"))[1]
            async with commands.peer(*theirs, "connect", guid, "chat") as two:
                two.say("hello")
                assert (await one.fact())["event"] == "session"
                said = await one.fact()
                assert said["remote"] == Identity.load(tmp_path / "b.key").guid
                assert (said["event"], said["text"]) == ("message", "hello")
                one.say("hello yourself")
                assert await two.line() == "hello yourself"
                two.end_input()
                assert await two.ended() == 0


def test_connect_and_locate_are_processes_too(service: Service, tmp_path: Path) -> None:
    theirs = ("--relay", service.relay, "--key", str(tmp_path / "b.key"))
    found = json.loads(run_peer(*theirs, "locate", service.guid, "chat", "--json").stdout)
    assert found["state"] == "online"
    with peer(*theirs, "connect", service.guid, "chat", "--linger", "0.2") as two:
        assert two.stdin is not None
        assert two.stdout is not None
        two.stdin.write("hello\n")
        two.stdin.flush()
        assert two.stdout.readline() == "hello\n"
        two.stdin.close()
        assert two.wait(60) == 0


SHELL = {"file": "< lines", "null": "< /dev/null", "closed": "<&-", "neither": "<&- >&-"}
"""What a shell gives, and a process begins with."""
ENDS = {"null": signal.SIGINT, "closed": signal.SIGTERM, "neither": signal.SIGHUP}
"""What ends those that have nothing to read."""


def test_no_kind_of_standard_input_ends_the_process(service: Service, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\ntwo\n")
    connect = shlex.join(command(service, tmp_path, "connect", service.guid, "chat"))
    with contextlib.ExitStack() as stack:
        running = {
            kind: stack.enter_context(
                subprocess.Popen(
                    ["bash", "-c", f"exec {connect.replace('b.key', f'{kind}.key')} {given}"],
                    cwd=tmp_path,
                    env=environment(),
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
            for kind, given in SHELL.items()
        }
        nothing = subprocess.run(
            ["bash", "-c", f"{connect.partition(' connect')[0]} id <&- >&- 2>&-"],
            env=environment(),
            timeout=30,
            check=False,
        )
        assert nothing.returncode == 1  # There is nowhere to print it.
        for kind, process in running.items():
            assert process.stderr is not None
            assert process.stderr.readline().startswith("connected: "), kind
        assert running["file"].communicate(timeout=30) == ("one\ntwo\n", "")
        assert running["file"].returncode == 0
        for kind, number in ENDS.items():
            assert running[kind].poll() is None, kind
            running[kind].send_signal(number)
        for kind, number in ENDS.items():
            assert running[kind].wait(60) == 128 + number, kind
            assert running[kind].communicate()[1] == "", kind


STUBBORN = """
import asyncio, os, signal, sys
from peers.cli.process import run
async def work():
    print("there", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("ending", flush=True)
sys.exit(run(work()))
"""
"""A command whose end takes for ever."""


def test_a_second_signal_ends_at_once_and_what_is_ignored_stays_so() -> None:
    with subprocess.Popen(
        ["bash", "-c", f"trap '' HUP; exec {shlex.join([sys.executable, '-c', STUBBORN])}"],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGHUP)  # As with nohup.
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ending\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stdout.read() == ""


def test_ctrl_c_ends_a_read_from_a_terminal_at_once(service: Service, tmp_path: Path) -> None:
    master, terminal = os.openpty()
    try:
        with subprocess.Popen(
            command(service, tmp_path, "connect", service.guid, "chat"),
            env=environment(),
            stdin=terminal,
            text=True,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("connected")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stderr.read() == ""
    finally:
        os.close(master)
        os.close(terminal)


def test_a_reader_that_has_gone_has_its_exit_code(service: Service, tmp_path: Path) -> None:
    watch = shlex.join(command(service, tmp_path, "watch", service.guid, "--json"))
    words = f"{watch} | head -1; echo ${{PIPESTATUS[0]}}; {sys.executable} -m peers -h > /dev/full"
    done = subprocess.run(
        ["bash", "-c", words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    presence, code = done.stdout.splitlines()
    assert json.loads(presence)["event"] == "presence"
    assert code == "141"
    assert done.stderr == "peer: cannot write: No space left on device\n"
    assert done.returncode == 1


@pytest.fixture(scope="module")
def relay_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a relay's key file, made by its command, and the GUID that this has printed."""
    key = tmp_path_factory.mktemp("relay") / "relay.key"
    made = subprocess.run(
        [sys.executable, "-m", "relay", "key", str(key)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=environment(),
    )
    assert key.stat().st_mode & 0o777 == 0o600
    return key, made.stdout.strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_relay_drains_and_exits_with_zero(
    tmp_path: Path, relay_key: tuple[Path, str], number: signal.Signals
) -> None:
    key, guid = relay_key
    words = ("--identity", str(key), "--state", str(tmp_path / "state"))
    with relay(tmp_path, *words, "--log-format", "json") as (url, process):
        assert url.startswith("http://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        events = [json.loads(line) for line in process.stderr]
        assert [event["event"] for event in events] == [
            "serving",
            "what to do next",
            "draining",
            "stopped",
        ]
        assert events[0]["relay"] == guid


def test_sighup_reloads_and_never_ends_the_relay(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("drain_timeout = 0\n")
    chain, key = certificate(tmp_path)
    words = ("--config", str(file), "--tls-certificate", chain, "--tls-key", key)
    with relay(tmp_path, *words, "--log-format", "json") as (url, process):
        assert url.startswith("https://")
        assert process.stderr is not None

        def event() -> dict[str, object]:
            assert process.stderr is not None
            return dict(json.loads(process.stderr.readline()))

        assert event()["event"] == "serving"
        assert event()["event"] == "what to do next"
        for text, events in (
            ("drain_timeout = 1\n", ["reloaded"]),
            ("lease = 60\nport = 1\n", ["reloaded", "what has changed here needs a restart"]),
            ("lease = '", ["not reloaded: all is as it was"]),
        ):
            file.write_text(text)
            process.send_signal(signal.SIGHUP)
            said = [event() for _ in events]
            assert [one["event"] for one in said] == events
        assert "relay.toml" in str(said[-1]["reason"])
        Path(chain).unlink()
        file.write_text("")
        process.send_signal(signal.SIGHUP)
        assert "cannot read" in str(event()["reason"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
