"""Who writes what: a relay in somebody's program nothing, `relay serve` what it is told to."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EMBEDDED = """
import asyncio
import sys
import aiohttp
from peers import Carrier, Identity, Peer, PeerConfig
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer

async def main():
    dns = DnsConfig(zone="example.org", port=0)
    async with RelayServer(RelayConfig(port=0, dns=dns)) as relay:
        for carrier in Carrier:
            config = PeerConfig(carrier=carrier)
            async with (
                Peer(Identity.generate(), relay.url, config=config) as alice,
                Peer(Identity.generate(), relay.url, config=config) as bob,
            ):
                listener = alice.listen("chat")
                await alice.published()
                session = await bob.connect(alice.guid, "chat", mode="central")
                await (await anext(listener)).close()
                await session.close()
        # What nobody expected, and what nobody asked for, is as silent.
        def fail(*arguments): raise RuntimeError("nobody expected this")
        relay.watches.telling = fail
        async with aiohttp.ClientSession() as http:
            for protocols in (("other",), ("roam-relay.1",)):
                try:
                    async with http.ws_connect(
                        relay.url + "/v1/control", protocols=protocols
                    ) as websocket:
                        await websocket.send_str("?")
                        await websocket.receive()
                except aiohttp.WSServerHandshakeError as error:
                    assert error.status == 426 and protocols == ("other",), error
        reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.split(":")[-1]))
        writer.write(b"nonsense\\r\\n\\r\\n")
        await reader.read()
        await asyncio.sleep(0.3)
        writer.close()

asyncio.run(main())
"""


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "default", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


def test_an_embedded_relay_writes_nothing_unasked() -> None:
    done = run("-c", EMBEDDED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_that_asks_gets_records_of_the_logger_relay() -> None:
    asks = "import logging; logging.basicConfig(level='INFO', format='%(name)s %(message)s')\n"
    done = run("-c", asks + EMBEDDED)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert any(line.startswith("relay event='registered' peer=") for line in lines)
    assert "RuntimeError: nobody expected this" in lines


@pytest.mark.parametrize(
    ("carrier", "style"), [("raw", "json"), ("websocket", "json"), ("websocket", "console")]
)
def test_serve_writes_lines_as_configured(tmp_path: Path, carrier: str, style: str) -> None:
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "relay", "serve", "--port", "0", "--log-format", style]
        + ["--ready-file", str(ready), "--state", str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        talk = (
            "import asyncio, sys, time, pathlib\n"
            "from peers import Carrier, Identity, Peer, PeerConfig\n"
            "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
            "async def main():\n"
            "    url = pathlib.Path(sys.argv[1]).read_text().strip()\n"
            "    async with Peer(Identity.generate(), url,\n"
            "                    config=PeerConfig(carrier=Carrier(sys.argv[2]))) as peer:\n"
            "        peer.listen('chat')\n"
            "        await peer.published()\n"
            "asyncio.run(main())\n"
        )
        done = run("-c", talk, str(ready), carrier)
        assert (done.returncode, done.stderr) == (0, "")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (0, "")
    if style == "json":
        lines = [json.loads(line) for line in err.splitlines()]
        assert [line["event"] for line in lines] == [
            "serving",
            "what to do next",
            "registered",
            "connection ended",
            "draining",
            "stopped",
        ]
        assert {line["level"] for line in lines} == {"info"}
        assert lines[2]["carrier"] == carrier
        assert all(line["timestamp"].endswith("Z") for line in lines)
    else:
        assert len(err.splitlines()) == 6
        assert "registered" in err


LOGS = r"""
import logging, os, sys
from relay.log import configure, log
style, count = sys.argv[1:]
configure(style, "info")
for number in range(int(count)):
    log.info("event", number=number, reason="[red]\x1b[31m\u202e\x9b\udce9\nforged")
print("done", flush=True)
sys.stdin.read()
"""
"""Logs so many lines, says so, and goes on when its input has ended."""


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOGS, "json", "12000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "done\n"
        lines, dropped = 0, ""
        while not dropped:
            event = json.loads(process.stderr.readline())["event"]
            lines += event == "event"
            dropped = event if "left out" in event else ""
        # All that is not left out comes, the newest of it last.
        left = 12_000 - lines - int(dropped.split()[0])
        assert left > 0
        assert [json.loads(process.stderr.readline())["event"] for _ in range(left)]
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait(20) == 0


def test_a_log_whose_reader_has_gone_ends_nobody() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOGS, "json", "1000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        assert process.communicate(timeout=30)[0] == "done\n"
        assert process.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_text_of_others_does_not_act_and_colour_is_for_terminals(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOGS, "console", "1"],
        capture_output=True,
        timeout=30,
        check=True,
        input=b"",
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    (line,) = done.stderr.decode().splitlines()
    assert line.endswith(r"number=0 reason=[red]\x1b[31m\u202e\x9b\udce9\x0aforged"), line
    assert "\x1b" not in line


def test_no_standard_stream_is_needed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    serve = f"{sys.executable} -m relay serve --port 0 --ready-file {ready} <&- >&- 2>&-"
    with subprocess.Popen(["bash", "-c", f"exec {serve}"]) as process:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


RAISES = r"""
import asyncio, gc, logging, sys, threading, warnings
from relay.log import configure, log

configure("json", "info")

class Left:
    def __del__(self): raise RuntimeError("nobody expected this: left")

def thread(): raise RuntimeError("nobody expected this: thread")
async def task(): raise RuntimeError("nobody expected this: task")
async def main():
    asyncio.ensure_future(task())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

class Unprintable:
    def __repr__(self): raise RuntimeError("nobody expected this: repr")

asyncio.run(main())
gc.collect()
Left()
one = threading.Thread(target=thread)
one.start()
one.join()
warnings.warn("nobody expected this: warning")
try:
    raise ValueError("nobody expected this: logged")
except ValueError as error:
    log.error("a step failed", exc_info=error)
log.info("event", words=Unprintable())
logging.getLogger("other").warning("%d", "nobody expected this: words")
raise RuntimeError("nobody expected this: end")
"""
"""Whatever may go wrong in a process, in the log's own words or not."""


def test_a_json_log_is_json_whatever_raises() -> None:
    done = run("-c", RAISES)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    traced = {
        line["exception"].splitlines()[-1].rpartition(": ")[2]: line["exception"]
        for line in lines
        if "exception" in line
    }
    assert set(traced) >= {"left", "thread", "task", "logged", "repr", "end"}
    assert all(text.startswith("Traceback ") for text in traced.values())
    assert any("nobody expected this: warning" in line["event"] for line in lines)
    assert any(line.get("of") == "'%d'" for line in lines)
    assert {"event", "level", "timestamp"} <= set.intersection(*map(set, lines))
    assert done.returncode == 1


KINDS = r"""
from relay.log import configure, log
configure("json", "info")
log.info("plain", text="a\x1b\n\x7f\"\\", number=-5, part=0.25, yes=True, nothing=None)
log.info("large", number=2**70)
log.info("\x9b\u202e\udce9", text="é")
log.info("others", data=b"x", many=[1, "b"], words={"a": object})
"""


def test_a_json_line_is_ascii_and_means_what_was_said() -> None:
    done = run("-c", KINDS)
    assert done.stderr.isascii()
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    said = [
        {key: value for key, value in line.items() if key not in ("level", "timestamp")}
        for line in lines
    ]
    plain = {"text": 'a\x1b\n\x7f"\\', "number": -5, "part": 0.25, "yes": True, "nothing": None}
    assert said == [
        {"event": "plain", **plain},
        {"event": "large", "number": 2**70},
        {"event": "\x9b\u202e\udce9", "text": "é"},
        {"event": "others", "data": "b'x'", "many": [1, "b"], "words": {"a": "<class 'object'>"}},
    ]


def test_lines_of_several_processes_stay_whole_in_one_log() -> None:
    program = (
        "import sys; from relay.log import configure, log; configure('json', 'info', sys.argv[1])\n"
        "for number in range(1500): log.info('line', number=number, text='x' * 200)\n"
        "print('said', flush=True)\n"
    )
    reading, writing = os.pipe()
    # It is full at once: what is longer than a pipe takes in one piece would be torn.
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with open(reading) as log:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", program, node], stdout=subprocess.PIPE, stderr=writing
            )
            for node in ("node-1", "node-2")
        ]
        os.close(writing)
        for one in writers:
            assert one.stdout is not None
            assert one.stdout.readline() == b"said\n"
            one.stdout.close()
        lines = [json.loads(line) for line in log]
        assert [one.wait(60) for one in writers] == [0, 0]
    assert {one["node"] for one in lines} == {"node-1", "node-2"}
