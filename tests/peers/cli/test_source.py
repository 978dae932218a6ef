"""What can be sent: all that can be read to an end, whatever its size says."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from peers.cli.source import PIECE, opened


async def content(path: Path) -> bytes:
    async with opened(path) as (file, size):
        data = file.read()
    assert len(data) == size
    return data


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
async def test_a_file_is_what_it_holds(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert await content(tmp_path / "file") == b"x" * size


async def test_files_of_the_system_say_no_true_size() -> None:
    for name in (
        "/proc/self/status",
        "/proc/cpuinfo",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ):
        if os.path.exists(name):
            assert await content(Path(name)), name


@pytest.mark.parametrize("size", [0, 10, 3 * PIECE + 1])
async def test_a_pipe_is_read_to_its_end(size: int) -> None:
    there, here = os.pipe()
    try:

        def write() -> None:
            with os.fdopen(here, "wb") as end:
                end.write(b"x" * size)

        writer = threading.Thread(target=write)
        writer.start()
        assert await content(Path(f"/dev/fd/{there}")) == b"x" * size
        writer.join()
    finally:
        os.close(there)


async def test_a_fifo_is_waited_for_until_somebody_has_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reading = asyncio.ensure_future(content(tmp_path / "fifo"))
    writing = asyncio.to_thread((tmp_path / "fifo").write_bytes, b"at last")
    await writing
    assert await reading == b"at last"


async def test_a_wait_can_be_ended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    reading = asyncio.ensure_future(content(tmp_path / "fifo"))
    while threading.active_count() == before[1]:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


async def test_devices_have_no_end(tmp_path: Path) -> None:
    assert await content(Path("/dev/null")) == b""
    for name in ("/dev/zero", "/dev/urandom"):
        with pytest.raises(OSError, match="a device"):
            await content(Path(name))
    with pytest.raises(OSError, match="Input/output error"):
        await content(Path("/proc/self/mem"))
    with pytest.raises(IsADirectoryError):
        await content(tmp_path)


async def test_no_room_for_a_pipe_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **_: object) -> None:
            pass

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile", Full)
    there, here = os.pipe()
    try:
        os.write(here, b"x")
        with pytest.raises(OSError, match=r"no room for it in .*: No space left"):
            await content(Path(f"/dev/fd/{there}"))
    finally:
        os.close(there)
        os.close(here)
