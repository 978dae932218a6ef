"""What `make demo` runs: a relay, a mobile node and a correspondent, each a process of its own.

In every mode they exchange messages and a file; the table shows what happened. The exit code is 0
only if every message and every file arrived intact.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

from peers import Mode

HERE = Path(__file__).parent
FILE_BYTES = 64 << 20
DEADLINE = 30.0
"""Seconds for each process to get ready, and ten times that for the whole conversation."""


def wait_for(file: Path, process: subprocess.Popen[str]) -> str:
    """Return what a process writes to a file when it is ready."""
    end = time.monotonic() + DEADLINE
    while not file.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit("the relay did not start: see its messages above")
        time.sleep(0.02)
    return file.read_text().strip()


def plane_bytes(relay: str) -> float:
    """Return the relay's own count of bytes through planes."""
    with urllib.request.urlopen(f"{relay}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if "plane_bytes_total{" in line)


def run(folder: Path, started: list[subprocess.Popen[str]]) -> bool:
    """Play the demo in an empty folder; return whether all arrived intact."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    ready = folder / "ready"
    relay_process = subprocess.Popen(
        [sys.executable, "-m", "relay", "serve", "--port", "0", "--ready-file", str(ready)]
        + ["--log-level", "warning"],
        text=True,
    )
    started.append(relay_process)
    relay = wait_for(ready, relay_process)
    console.print(f"relay        {relay}")
    received = folder / "received"
    mobile = subprocess.Popen(
        [sys.executable, str(HERE / "mobile_node.py"), relay, str(folder / "mobile.key")]
        + [str(received)],
        text=True,
        stdout=subprocess.PIPE,
    )
    started.append(mobile)
    assert mobile.stdout is not None
    guid = mobile.stdout.readline().strip()
    if not guid:
        raise SystemExit("the mobile node did not start: see its messages above")
    console.print(f"mobile node  {guid}")
    payload = folder / "payload.bin"
    payload.write_bytes(os.urandom(FILE_BYTES))
    expected = hashlib.sha256(payload.read_bytes()).hexdigest()
    correspondent = subprocess.Popen(
        [sys.executable, str(HERE / "correspondent.py"), relay, str(folder / "cn.key"), guid]
        + [str(payload)],
        text=True,
        stdout=subprocess.PIPE,
    )
    started.append(correspondent)
    output, _ = correspondent.communicate(timeout=DEADLINE * 10)
    results = [json.loads(line) for line in output.splitlines()]
    stored = [hashlib.sha256(file.read_bytes()).hexdigest() for file in received.iterdir()]
    table = Table(title="A correspondent visits a mobile node")
    for column in ("mode", "path", "from", "to", "setup", "round trip", "file", "intact"):
        table.add_column(column, justify="left" if column in ("mode", "path") else "right")
    for result in results:
        intact = result["sha256"] == expected and expected in stored
        table.add_row(
            result["mode"],
            result["path"],
            result["local"],
            result["remote"],
            f"{result['setup_ms']:.1f} ms",
            f"{result['round_trip_ms']:.2f} ms",
            f"{result['megabytes_per_second']:.0f} MB/s",
            "yes" if intact else "NO",
        )
    console.print(table)
    relayed = plane_bytes(relay)
    console.print(
        f"The relay moved {relayed / 1e6:.1f} MB: all of the central session, the beginning of "
        "auto, and nothing else."
    )
    return (
        correspondent.returncode == 0
        and len(results) == len(Mode)
        and stored == [expected] * len(Mode)
        and FILE_BYTES < relayed < FILE_BYTES * 1.1
    )


def main() -> int:
    """Run the demo; stop every process that it started."""
    started: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            intact = run(Path(folder), started)
        finally:
            for process in reversed(started):
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
    print("Everything arrived intact." if intact else "Something was lost or changed.")
    return 0 if intact else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
