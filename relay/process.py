"""The process as the system sees it: time, memory, descriptors, start. For Linux; elsewhere what
Python itself knows.

prometheus-client's own collector lists all descriptors to count them, which holds the loop of a
relay with 20,000 of them for 17 ms; the rest here goes by the same names.
"""

import asyncio
import contextlib
import gc
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from time import process_time, time
from typing import Any

from relay.log import log

if sys.platform != "win32":
    import resource

__all__ = [
    "Process",
    "build_info",
    "cores",
    "ended_by_signals",
    "open_standard_descriptors",
    "process_now",
    "run",
    "spare_the_collector",
]

_LOADED = time()


_ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_COLLECTED = 10_000, 5, 1_000
"""Objects that are new before the young ones are looked at: 0.3 ms; how often, before those are
that have outlived this once: 1.5 ms; and how often these, before all are."""


@dataclass(frozen=True, slots=True)
class Process:
    """The process now. None is what the system does not say."""

    cpu_seconds: float
    """Of all its threads, since the start."""
    resident_bytes: int | None
    descriptors: int | None
    """That are open."""
    max_descriptors: int | None
    started: float
    """Unix time."""


def process_now() -> Process:
    """Look at the process."""
    return Process(process_time(), _resident(), _descriptors(), _max_descriptors(), _started())


def cores() -> int:
    """Return how many this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spare_the_collector() -> None:
    """Let the collector walk over what is young, and seldom over all peers: by itself it does so
    whenever their number has grown by a quarter, and holds the loop for 1 ms a thousand peers. What
    is here now stays. Connections leave no cycles behind. This is the process's: an embedded relay
    leaves it alone."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED)


@cache
def build_info() -> dict[str, str]:
    """Return which program this is: its version, and what it runs on."""
    try:
        version = metadata.version("roam-relay")
    except metadata.PackageNotFoundError:
        version = "unknown"  # It runs from a folder that was never installed.
    return {
        "version": version,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
    }


def _resident() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _descriptors() -> int | None:
    """Since Linux 6.2 the folder's size is how many there are; before, they have to be listed."""
    try:
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def _max_descriptors() -> int | None:
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


@cache
def _started() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/stat", "rb") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith(b"btime "))
        return booted + ticks / os.sysconf("SC_CLK_TCK")
    return _LOADED


def open_standard_descriptors() -> None:
    """Open closed ones on /dev/null: the next socket would get such a number, and libuv aborts a
    process that closes a socket with one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number is this one.


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a program to its end, on the fastest loop that there is."""
    if sys.platform == "win32":
        asyncio.run(main)
        return
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    try:
        from uvloop import new_event_loop

        factory = new_event_loop
    except ModuleNotFoundError:
        log.warning("asyncio's own loop serves, more slowly: pip install 'roam-relay[uvloop]'")
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


class _Ended(SystemExit):
    """A signal ends the command. What is open is closed on the way out, in a loop too."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let signals end what is done in this block without a word, with all closed that was opened;
    then the process ends by the signal, which is what a shell and systemd know how to read. What
    is ignored stays so, and who has a loop can have handlers of its own meanwhile."""
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        came.append(number)
        raise _Ended(128 + number)

    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                former[number] = signal.signal(number, end)
    try:
        yield
    except _Ended:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        if sys.platform != "win32":
            signal.signal(came[0], signal.SIG_DFL)
            os.kill(os.getpid(), came[0])
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
