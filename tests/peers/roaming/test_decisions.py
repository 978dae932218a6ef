"""What the program says of sessions that others ask for: first above a clock that jumps, then with
real peers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from peers import (
    Identity,
    Mode,
    Peer,
    Refused,
    RequestTimeout,
    RoamRelayError,
    SessionRequest,
)
from peers.roaming import decisions as module
from peers.roaming.decisions import DECIDES_WITHIN, Decisions
from peers.services import Refusal
from peers.tasks import Tasks
from protocol.errors import Code
from tests.support.fake_path import FakePath
from tests.support.sessions import MODES
from tests.support.virtual_time import run

ONE, TWO, THREE = (Identity.generate().guid for _ in range(3))


def request(remote: str = ONE, metadata: bytes = b"") -> SessionRequest:
    return SessionRequest(remote, "chat", Mode.P2P, metadata, FakePath().path)


class Program:
    """A function that waits for what the test lets it say."""

    def __init__(self) -> None:
        self.asked: list[SessionRequest] = []
        self.says: list[asyncio.Future[Any]] = []

    async def __call__(self, request: SessionRequest) -> Any:
        self.asked.append(request)
        self.says.append(asyncio.get_running_loop().create_future())
        return await self.says[-1]


def scene(play: Callable[[Decisions], Awaitable[None]]) -> None:
    """Play it, and see that nothing is left of what was asked."""

    async def played() -> None:
        tasks = Tasks()
        decisions = Decisions(tasks)
        await play(decisions)
        await tasks.close()
        await asyncio.sleep(0)
        assert (len(tasks), decisions.pending) == (0, 0)

    run(played())


async def said(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("says", "code", "reason"),
    [
        (True, None, ""),
        (False, Code.REFUSED, "the application does not take this session"),
        ("busy until ten", Code.REFUSED, "busy until ten"),
        ("", Code.REFUSED, "the application does not take this session"),
        ("half \ud83d of it", Code.REFUSED, "half ? of it"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_function_says(says: Any, code: Code | None, reason: str, is_async: bool) -> None:
    async def play(decisions: Decisions) -> None:
        found = await decisions.ask(
            b"s" * 16, request(), lambda _: said(says) if is_async else says
        )
        assert found == (None if code is None else Refusal(code, reason))

    scene(play)


def test_a_refusal_may_be_raised() -> None:
    async def refuses(request: SessionRequest) -> bool:
        raise Refused("members only")

    async def play(decisions: Decisions) -> None:
        found = await decisions.ask(b"s" * 16, request(), refuses)
        assert found == Refusal(Code.REFUSED, "members only")

    scene(play)


def raises(request: SessionRequest) -> bool:
    raise ZeroDivisionError("the program's own")


async def raises_later(request: SessionRequest) -> bool:
    await asyncio.sleep(0.1)
    raise ZeroDivisionError("the program's own")


@pytest.mark.parametrize(
    "accept", [raises, raises_later, lambda _: None, lambda _: said(None), lambda _: 1]
)
def test_what_is_no_decision_refuses_and_is_told_once(accept: Any) -> None:
    async def play(decisions: Decisions) -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
        found = await decisions.ask(b"s" * 16, request(), accept)
        assert found is not None
        assert found.code is Code.INTERNAL
        (one,) = told
        assert "accept of 'chat' failed" in one["message"]

    scene(play)


def test_one_that_is_cancelled_refuses() -> None:
    async def ends_itself(request: SessionRequest) -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)
        return True

    async def play(decisions: Decisions) -> None:
        found = await decisions.ask(b"s" * 16, request(), ends_itself)
        assert found is not None
        assert found.code is Code.INTERNAL

    scene(play)


def test_one_that_hangs_refuses_in_time_and_counts_until_it_ends() -> None:
    async def play(decisions: Decisions) -> None:
        lets_go = asyncio.Event()

        async def stubborn(request: SessionRequest) -> bool:
            while not lets_go.is_set():
                try:
                    await lets_go.wait()
                except asyncio.CancelledError:
                    continue
            return True

        began = asyncio.get_running_loop().time()
        found = await decisions.ask(b"s" * 16, request(), stubborn)
        assert found is not None
        assert found.code is Code.REQUEST_TIMEOUT
        assert asyncio.get_running_loop().time() - began == pytest.approx(DECIDES_WITHIN)
        assert decisions.pending == 1
        lets_go.set()
        await asyncio.sleep(0.1)
        assert decisions.pending == 0

    scene(play)


def test_who_says_hello_again_waits_for_the_same_word() -> None:
    """Over another path, after the first one was given up; but not with another word of its own,
    nor for what somebody else has asked."""

    async def play(decisions: Decisions) -> None:
        program = Program()
        first = asyncio.ensure_future(decisions.ask(b"s" * 16, request(), program))
        await asyncio.sleep(0)
        first.cancel()
        asks = [
            asyncio.ensure_future(decisions.ask(b"s" * 16, one, program))
            for one in (request(), request(metadata=b"other"), request(TWO))
        ]
        await asyncio.sleep(0.1)
        assert [one.metadata for one in program.asked] == [b"", b"other", b""]
        assert [one.remote for one in program.asked] == [ONE, ONE, TWO]
        for says, answer in zip(program.says, (True, False, "no"), strict=True):
            says.set_result(answer)
        words = await asyncio.gather(*asks)
        assert [word and word.reason for word in words] == [
            None,
            "the application does not take this session",
            "no",
        ]
        assert first.cancelled()

    scene(play)


def test_a_caller_has_a_share_of_those_that_wait_and_all_of_them_a_bound() -> None:
    async def play(decisions: Decisions) -> None:
        program = Program()

        def asks(remote: str, number: int) -> "asyncio.Future[Refusal | None]":
            session = number.to_bytes(16, "big")
            return asyncio.ensure_future(decisions.ask(session, request(remote), program))

        many = [asks(ONE, number) for number in range(40)]
        await asyncio.sleep(0)
        assert decisions.pending == 16
        refused = [one.result() for one in many if one.done()]
        assert {one and one.code for one in refused} == {Code.LIMIT_EXCEEDED}
        others = [Identity.generate().guid for _ in range(7)]
        for guid in others:
            many += [asks(guid, number) for number in range(16)]
        await asyncio.sleep(0)
        assert decisions.pending == 128, "all is used"
        newcomer = asks(TWO, 0)
        await asyncio.sleep(0.1)
        assert not newcomer.done(), "who has most loses the oldest"
        assert decisions.pending == 128
        assert len([one for one in many if one.done()]) == 25
        for says in program.says:
            if not says.done():
                says.set_result(True)
        assert await newcomer is None
        await asyncio.wait(many)

    scene(play)


def test_closing_ends_what_waits() -> None:
    async def played() -> None:
        tasks = Tasks()
        decisions = Decisions(tasks)
        asked = asyncio.ensure_future(decisions.ask(b"s" * 16, request(), Program()))
        await asyncio.sleep(0)
        await tasks.close()
        assert await asked is not None
        assert await decisions.ask(b"t" * 16, request(), Program()) is not None
        assert decisions.pending == 0

    run(played())


# -- real peers -------------------------------------------------------------------------------


@MODES
async def test_the_callee_sees_the_metadata_before_it_takes_the_session(
    alice: Peer, bob: Peer, mode: Mode
) -> None:
    seen: list[SessionRequest] = []

    async def accept(request: SessionRequest) -> bool | str:
        seen.append(request)
        return True if request.metadata == b"room 7" else "no such room: \x1b[2J"

    listener = alice.listen("chat", accept=accept)
    await alice.published()
    with pytest.raises(Refused, match="no such room") as refused:
        await bob.connect(alice.guid, "chat", mode=mode, metadata=b"room 8")
    assert refused.value.code is Code.REFUSED
    here = await bob.connect(alice.guid, "chat", mode=mode, metadata=bytearray(b"room 7"))
    async with asyncio.timeout(60):
        there = await anext(listener)
        assert here.metadata == there.metadata == b"room 7"
        assert [one.metadata for one in seen] == [b"room 8", b"room 7"]
        assert {(one.remote, one.service) for one in seen} == {(bob.guid, "chat")}
        assert seen[1].path is there.path
        await here.send(b"hello")
        assert await there.receive() == b"hello"
        # The next path is the session's own, and nobody is asked again.
        there.drop_path("cut by the test")  # type: ignore[attr-defined]
        await here.send(b"still here")
        assert await there.receive() == b"still here"
        await here.close()
    assert len(seen) == 2


@MODES
async def test_a_listener_that_asks_nobody_has_the_metadata_too(
    alice: Peer, bob: Peer, mode: Mode
) -> None:
    listener = alice.listen("chat")
    await alice.published()
    word = bytes(range(256)) * 4
    here = await bob.connect(alice.guid, "chat", mode=mode, metadata=word)
    there = await asyncio.wait_for(anext(listener), 60)
    assert (here.metadata, there.metadata) == (word, word)
    await here.close()


@pytest.mark.expected_errors("accept of 'chat' failed")
@pytest.mark.parametrize("accept", [raises, raises_later])
async def test_a_function_that_fails_costs_nobody_else(alice: Peer, bob: Peer, accept: Any) -> None:
    alice.listen("chat", accept=accept)
    good = alice.listen("other")
    await alice.published()
    with pytest.raises(RoamRelayError, match=r"^the application failed to decide$") as told:
        await bob.connect(alice.guid, "chat", mode="p2p")
    assert told.value.code is Code.INTERNAL
    here = await bob.connect(alice.guid, "other", mode="p2p")
    await asyncio.wait_for(anext(good), 60)
    await here.close()


async def test_who_hangs_is_over_in_time(
    alice: Peer, bob: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DECIDES_WITHIN", 0.2)
    waits = asyncio.Event()

    async def accept(request: SessionRequest) -> bool:
        await waits.wait()
        return True

    alice.listen("chat", accept=accept)
    await alice.published()
    with pytest.raises(RequestTimeout, match="did not decide in time"):
        await bob.connect(alice.guid, "chat", mode="central")
    assert bob.sessions == alice.sessions == ()


async def test_a_service_that_closes_meanwhile_begins_no_session(alice: Peer, bob: Peer) -> None:
    async def accept(request: SessionRequest) -> bool:
        listener.close()
        alice.listen("chat", accept=lambda _: False)
        return True

    listener = alice.listen("chat", accept=accept)
    await alice.published()
    with pytest.raises(RoamRelayError) as told:
        await bob.connect(alice.guid, "chat", mode="p2p")
    assert told.value.code is Code.UNKNOWN_SERVICE
    assert bob.sessions == alice.sessions == ()


async def test_a_caller_that_gives_up_meanwhile_begins_no_session(alice: Peer, bob: Peer) -> None:
    asked: asyncio.Future[SessionRequest] = asyncio.get_running_loop().create_future()
    answered = asyncio.Event()

    async def accept(request: SessionRequest) -> bool:
        asked.set_result(request)
        while not request.path.is_gone:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        answered.set()
        return True

    alice.listen("chat", accept=accept)
    other = alice.listen("other")
    await alice.published()
    opening = asyncio.ensure_future(bob.connect(alice.guid, "chat", mode="p2p"))
    async with asyncio.timeout(60):
        await asked
        opening.cancel()
        await answered.wait()
        here = await bob.connect(alice.guid, "other", mode="p2p")
        await anext(other)
    assert [one.service for one in alice.sessions] == ["other"]
    await here.close()


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ("text", TypeError),
        (None, TypeError),
        (b"x" * 1025, ValueError),
        (memoryview(b"abcd")[::2], None),
    ],
)
async def test_metadata_is_checked_where_it_is_given(
    alice: Peer, bob: Peer, metadata: Any, error: type[Exception] | None
) -> None:
    listener = alice.listen("chat")
    if error is not None:
        with pytest.raises(error, match="metadata"):
            await bob.connect(alice.guid, "chat", metadata=metadata)
        return
    await alice.published()
    here = await bob.connect(alice.guid, "chat", mode="p2p", metadata=metadata)
    assert (await asyncio.wait_for(anext(listener), 60)).metadata == b"ac"
    await here.close()
