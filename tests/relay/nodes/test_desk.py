"""What several processes answer, as one answer."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.nodes.desk import NodesDesk
from relay.operator import (
    Allow,
    Answer,
    Asked,
    Ban,
    Done,
    Failed,
    Forget,
    LocalDoor,
    Peers,
    PeersShown,
)


class _Says:
    """The desk of one process that answers the same each time."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def turned_away(self) -> None:
        raise AssertionError("it is asked once")

    async def do(self, asked: Asked) -> Answer:
        return self._answer


@contextlib.asynccontextmanager
async def asked_of(folder: Path, *answers: Answer | None) -> AsyncIterator[NodesDesk]:
    """Open a desk of so many processes; one whose answer is None is not there."""
    sockets = {f"node-{number}": str(folder / f"{number}") for number in range(1, len(answers) + 1)}
    async with contextlib.AsyncExitStack() as stack:
        for path, answer in zip(sockets.values(), answers, strict=True):
            if answer is not None:
                door = LocalDoor(path, _Says(answer))
                stack.push_async_callback(door.close)
                await door.open()
        yield NodesDesk(sockets, None, (), lambda: None)


async def test_what_each_has_forgotten_is_told(tmp_path: Path) -> None:
    first, second = Done("g", "nothing was kept of it"), Done("g", "forgotten (its letters)", 2)
    async with asked_of(tmp_path, first, second) as desk:
        answer = await desk.do(Forget("g"))
    said = "node-1: nothing was kept of it; node-2: forgotten (its letters)"
    assert answer == Done("g", said, 2)


async def test_one_that_could_not_forget_says_so(tmp_path: Path) -> None:
    async with asked_of(tmp_path, Done("g", "forgotten"), Failed("the disk is full")) as desk:
        answer = await desk.do(Forget("g"))
    assert answer == Done("g", "node-1: forgotten; node-2: not done: the disk is full")


async def test_where_all_say_the_same_it_is_said_once(tmp_path: Path) -> None:
    async with asked_of(tmp_path, Done("g", "forgotten", 1), Done("g", "forgotten", 2)) as desk:
        assert await desk.do(Forget("g")) == Done("g", "forgotten", 3)


async def test_what_is_in_one_book_is_as_the_first_has_done_it(tmp_path: Path) -> None:
    lifted = Done("192.0.2.0/24", "its ban is lifted")
    async with asked_of(tmp_path, lifted, Failed("it is not banned")) as desk:
        assert await desk.do(Allow("192.0.2.0/24")) == lifted


@pytest.mark.parametrize("asked", [Forget("g"), Ban("g")])
async def test_who_did_not_answer_is_named(tmp_path: Path, asked: Asked) -> None:
    async with asked_of(tmp_path, None, Done("g", "done", 1), None) as desk:
        said = "done; node-1 and node-3 did not answer: say it again later"
        assert await desk.do(asked) == Done("g", said, 1)


async def test_lists_are_of_those_who_answer(tmp_path: Path) -> None:
    async with asked_of(tmp_path, None, PeersShown(3, ())) as desk:
        assert await desk.do(Peers()) == PeersShown(3, (), ("node-1",))
    async with asked_of(tmp_path, None) as desk:
        assert isinstance(await desk.do(Peers()), Failed)
