"""What `make demo` runs: a relay, a mobile node and a correspondent, each a process of its own.

In every mode they exchange messages and a file; the table shows what happened. The exit code is 0
only if every message and every file arrived intact, on the way that the mode promises; how long
anything took is shown and not judged. DEMO_MIB is the size of the file (64).
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from peers import Mode

HERE = Path(__file__).parent
MOBILE_NODE = HERE / "mobile_node.py"
FILE = "payload.bin"
DEADLINE = 60.0
"""Seconds for the relay to get ready, and ten times that for the whole conversation."""

PATHS = {Mode.P2P: "direct", Mode.COMBINED: "direct", Mode.CENTRAL: "relayed"}
"""The path that a mode promises. `auto` begins relayed and goes direct when it can: where it stands
at any moment, and how much was relayed until then, is a matter of time."""


def wait_for(file: Path, process: subprocess.Popen[str]) -> str:
    """Return what a process writes to a file when it is ready."""
    end = time.monotonic() + DEADLINE
    while not file.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit("the relay did not start: see its messages above")
        time.sleep(0.02)
    return file.read_text().strip()


def digest_of(file: Path) -> str:
    """Return a file's SHA-256 (hex)."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def judge(
    seen: Sequence[dict[str, Any]], stored: dict[str, str], expected: str, size: int
) -> list[str]:
    """Return what is wrong, a line each; nothing where all is as it should be.

    `seen` is what the correspondent tells of each mode, `stored` the checksums of the mobile node's
    files by name: a name that is there already gets a number. `expected` is the checksum of what
    was sent, and `size` its bytes.
    """
    wrong = []
    by_mode = {one["mode"]: one for one in seen}
    names = iter([FILE, *(f"{number}-{FILE}" for number in range(1, len(Mode)))])
    for mode in Mode:
        one = by_mode.get(mode.value)
        if one is None:
            wrong.append(f"{mode}: the correspondent tells nothing of it")
            continue
        if "error" in one:
            wrong.append(f"{mode}: {one['error']}")
            continue
        if one["in_order"] != one["messages"]:
            wrong.append(f"{mode}: {one['in_order']} of {one['messages']} messages came in order")
        if one["path"] != PATHS.get(mode, one["path"]):
            wrong.append(f"{mode}: the path is {one['path']}, not {PATHS[mode]}")
        name = next(names)
        if one["sha256"] != expected:
            wrong.append(f"{mode}: another file was sent")
        if name not in stored:
            wrong.append(f"{mode}: its file {name} is missing")
        elif stored[name] != expected:
            wrong.append(f"{mode}: its file {name} is changed")
        # Every byte of the file passed the relay, or the file did not; the rest is overhead.
        if mode is Mode.CENTRAL and one["relayed"] < size:
            wrong.append(f"{mode}: only {one['relayed']} of {size} bytes passed the relay")
        if PATHS.get(mode) == "direct" and one["relayed"] >= size:
            wrong.append(f"{mode}: {one['relayed']} bytes passed the relay")
    if strange := sorted(set(stored) - {FILE, *(f"{n}-{FILE}" for n in range(1, len(Mode)))}):
        wrong.append(f"nobody sent {', '.join(strange)}")
    return wrong


def show(console: Console, seen: Sequence[dict[str, Any]]) -> None:
    """Print what happened in each mode."""
    table = Table(title="A correspondent visits a mobile node")
    for column in ("mode", "path", "from", "to", "setup", "round trip", "file", "relayed"):
        table.add_column(column, justify="left" if column in ("mode", "path") else "right")
    for one in seen:
        if "error" in one:
            table.add_row(one["mode"], "failed")
            continue
        table.add_row(
            one["mode"],
            one["path"],
            Text(one["local"]),
            Text(one["remote"]),
            f"{one['setup_ms']:.1f} ms",
            f"{one['round_trip_ms']:.2f} ms",
            f"{one['megabytes_per_second']:.0f} MB/s",
            f"{one['relayed'] / 1e6:.1f} MB",
        )
    console.print(table)


def run(folder: Path, started: list[subprocess.Popen[str]]) -> list[str]:
    """Play the demo in an empty folder; return what is wrong."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    ready = folder / "ready"
    relay_process = subprocess.Popen(
        [sys.executable, "-m", "relay", "serve", "--port", "0", "--ready-file", str(ready)]
        + ["--log-level", "warning", "--state", str(folder / "relay")],
        text=True,
    )
    started.append(relay_process)
    relay = wait_for(ready, relay_process)
    console.print(f"relay        {relay}")
    received = folder / "received"
    received.mkdir()
    mobile = subprocess.Popen(
        [sys.executable, str(MOBILE_NODE), relay, str(folder / "mobile.key"), str(received)],
        text=True,
        stdout=subprocess.PIPE,
    )
    started.append(mobile)
    assert mobile.stdout is not None
    guid = mobile.stdout.readline().strip()
    if not guid:
        raise SystemExit("the mobile node did not start: see its messages above")
    console.print(f"mobile node  {guid}")
    size = int(os.environ.get("DEMO_MIB", "64")) << 20
    payload = folder / FILE
    payload.write_bytes(os.urandom(size))
    correspondent = subprocess.Popen(
        [sys.executable, str(HERE / "correspondent.py"), relay, str(folder / "cn.key"), guid]
        + [str(payload)],
        text=True,
        stdout=subprocess.PIPE,
    )
    started.append(correspondent)
    output, _ = correspondent.communicate(timeout=DEADLINE * 10)
    seen = [json.loads(line) for line in output.splitlines()]
    show(console, seen)
    stored = {file.name: digest_of(file) for file in received.iterdir()}
    wrong = judge(seen, stored, digest_of(payload), size)
    if correspondent.returncode != 0:
        wrong.append(f"the correspondent ended with exit code {correspondent.returncode}")
    return wrong


NEXT = """
What to try next:
  make lab                  the same, while real interfaces come and go
  .venv/bin/relay serve     a relay of your own, with a dashboard; it says what to do next
  docs/chat.md              two terminals that talk, wherever they move
  docs/index.md             where to begin, with a server or with a program"""


def main() -> int:
    """Run the demo; stop every process that it started."""
    started: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            wrong = run(Path(folder), started)
        finally:
            for process in reversed(started):
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if process.stdout is not None:
                    process.stdout.close()
    if wrong:
        print("Something was lost or changed:", *wrong, sep="\n  ")
        return 1
    print("Everything arrived intact.", NEXT, sep="\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
