"""A connection that is given to another process: whole, or not at all."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.config import ClusterConfig, RelayConfig, Siblings
from relay.http import Handover

TIMEOUT = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return str(tmp_path)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as far,
    ):
        near, _ = listening.accept()
        with near:
            yield near, far


async def test_it_comes_as_it_is(folder: str, pair: tuple[socket.socket, socket.socket]) -> None:
    taken: asyncio.Queue[socket.socket] = asyncio.Queue()
    here, there = Handover(folder, "a"), Handover(folder, "b")
    here.open(lambda sock: None)
    there.open(taken.put_nowait)
    near, far = pair
    far.sendall(b"GET / HTTP/1.1\r\n")
    assert near.recv(64, socket.MSG_PEEK)
    assert here.give("b", near)
    assert near.fileno() < 0
    with await asyncio.wait_for(taken.get(), TIMEOUT) as given:
        assert given.recv(64) == b"GET / HTTP/1.1\r\n", "nothing of it was read"
        assert given.getpeername() == far.getsockname()
        given.sendall(b"answer")
        assert far.recv(64) == b"answer"
    there.close()
    here.close()
    assert not list(Path(folder).glob("*/*")), "no socket is left"


async def test_who_is_not_there_or_has_enough_to_do_gets_nothing(
    folder: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    here = Handover(folder, "a")
    near, far = pair
    assert not here.give("b", near), "it is not open itself"
    here.open(lambda sock: None)
    assert not here.give("b", near)
    # One that reads nothing has a queue of a few.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hangs:
        hangs.bind(str(Path(folder, "b", "legs.sock")))
        given = 0
        while here.give("b", copy := near.dup()):
            given += 1
        copy.close()
        assert given > 0
    # The queue has gone with its owner, and what was in it: only this process has it still.
    assert not here.give("b", near)
    near.sendall(b"still here")
    assert far.recv(64) == b"still here"
    here.close()


async def test_what_dies_with_who_was_given_it_is_told_to_the_other_end(
    folder: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    here = Handover(folder, "a")
    here.open(lambda sock: None)
    near, far = pair
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dies:
        dies.bind(str(Path(folder, "b", "legs.sock")))
        assert here.give("b", near)
    far.settimeout(TIMEOUT)
    assert far.recv(1) == b""
    here.close()


async def test_what_is_no_leg_is_passed_over(
    folder: str,
    pair: tuple[socket.socket, socket.socket],
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken: asyncio.Queue[socket.socket] = asyncio.Queue()
    here = Handover(folder, "a")
    here.open(taken.put_nowait)
    near, _ = pair
    open_before = len(os.listdir("/proc/self/fd"))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
        tempfile.TemporaryFile() as no_socket,
    ):
        other.connect(str(Path(folder, "a", "legs.sock")))
        other.send(b"leg")
        socket.send_fds(other, [b"leg"], [no_socket.fileno()] * 3)
        socket.send_fds(other, [b"other"], [near.fileno()])
        socket.send_fds(other, [b"leg"], [near.fileno(), near.fileno()])
        socket.send_fds(other, [b"leg"], [near.fileno()])
    (await asyncio.wait_for(taken.get(), TIMEOUT)).close()
    assert taken.empty()
    assert sum("did not come whole" in one.getMessage() for one in caplog.records) == 4
    assert len(os.listdir("/proc/self/fd")) == open_before, "what was given is closed"
    here.close()


async def test_a_folder_whose_name_is_too_long_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Handover(str(tmp_path / ("x" * 100)), "a")
    one.open(lambda sock: None)
    assert "legs are led here" in caplog.text
    with socket.socket() as sock:
        assert not one.give("a", sock)
    one.close()


def test_a_relay_that_is_one_process_has_none() -> None:
    config = RelayConfig(cluster=ClusterConfig(node="a"))
    assert Handover.of(config, None) is None
    assert Handover.of(config, Siblings(book=None)) is None
    assert Handover.of(RelayConfig(), Siblings(book=None, folder="/f")) is None
    assert Handover.of(config, Siblings(book=None, folder="/f")) is not None
