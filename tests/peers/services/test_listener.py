"""One service: who may ask, the sessions that wait to be taken, and how it ends."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import Identity, Session, SessionSettings
from peers.services import Admission, Listener, ListenerEnd
from peers.services.end import BACKLOG, BACKLOG_EACH
from peers.session import SessionEnd, Trace
from protocol.errors import Code, ConnectionClosed, RelayUnavailable
from protocol.messages import MAX_DISCLOSE, Disclosure
from tests.peers.roaming.fakes import CALLEE
from tests.support.virtual_time import run

ONE, TWO, THREE = (Identity.generate().guid for _ in range(3))
CLOSED: list[Listener] = []


def listener(
    allow: Collection[str] | None = None,
    disclose: str | Collection[str] = "anyone",
    port: int | None = None,
) -> ListenerEnd:
    CLOSED.clear()
    return ListenerEnd(
        "chat",
        Admission.checked(allow),
        disclose=disclose,
        on_closed=CLOSED.append,
        port=port,
    )


def session(guid: str = ONE) -> Session:
    loop = asyncio.get_running_loop()
    terms = dataclasses.replace(CALLEE, remote=guid)
    return SessionEnd(b"s" * 16, terms, SessionSettings(), Trace(loop.time), lambda news: None)


def code(one: ListenerEnd, guid: str) -> Code | None:
    refusal = one.refusal(guid)
    return refusal.code if refusal is not None else None


def test_who_may_ask() -> None:
    assert code(listener(), ONE) is None
    assert code(listener(allow=[ONE]), ONE) is None
    assert code(listener(allow=[ONE]), TWO) is Code.REFUSED
    assert code(listener(allow=[]), ONE) is Code.REFUSED
    assert code(listener(port=22), ONE) is Code.REFUSED, "another program's"


@pytest.mark.parametrize(
    ("disclose", "told", "offered"),
    [
        ("anyone", [ONE, TWO], (Disclosure.ANYONE, ())),
        ("nobody", [], (Disclosure.NOBODY, ())),
        ([ONE], [ONE], (Disclosure.LISTED, (ONE,))),
        ((), [], (Disclosure.LISTED, ())),
    ],
)
def test_who_learns_where_it_is(disclose: Any, told: list[str], offered: Any) -> None:
    one = listener(disclose=disclose)
    assert [guid for guid in (ONE, TWO) if one.discloses_to(guid)] == told
    assert (one.offered.disclosure, one.offered.listed) == offered


@pytest.mark.parametrize("disclose", ["sometimes", "listed", "", ["x"] * (MAX_DISCLOSE + 1)])
def test_other_disclosures_are_none(disclose: Any) -> None:
    with pytest.raises(ValueError, match="disclos"):
        listener(disclose=disclose)


async def test_sessions_come_in_the_order_in_which_they_were_offered() -> None:
    one = listener()
    made = [session() for _ in range(3)]
    for each in made[:2]:
        one.offer(each)
    assert [await anext(one), await anext(one)] == made[:2]
    waiting = asyncio.ensure_future(anext(one))
    await asyncio.sleep(0)
    one.offer(made[2])
    assert await waiting is made[2]


async def test_the_backlog_has_a_bound_and_each_caller_a_share_of_it() -> None:
    one = listener()
    for number in range(BACKLOG_EACH):
        assert code(one, ONE) is None, number
        one.offer(session(ONE))
    assert code(one, ONE) is Code.LIMIT_EXCEEDED
    assert code(one, TWO) is None
    for _ in range(BACKLOG - BACKLOG_EACH):
        one.offer(session(TWO))
    assert code(one, THREE) is Code.LIMIT_EXCEEDED, "there is no room for anybody"
    assert (await anext(one)).remote == ONE
    assert (code(one, ONE), code(one, TWO)) == (None, Code.LIMIT_EXCEEDED)


@given(
    steps=st.lists(st.sampled_from(["offer one", "offer two", "take", "cancelled take", "close"]))
)
def test_a_share_is_given_back_with_each_session_that_leaves(steps: list[str]) -> None:
    """Whatever the order, as many may come as there is room for once all are gone."""

    async def scene() -> None:
        one = listener()
        waiting: Counter[str] = Counter()
        made: list[Session] = []
        closed = False
        for step in steps:
            match step:
                case "offer one" | "offer two":
                    made.append(session(ONE if step == "offer one" else TWO))
                    one.offer(made[-1])
                    if closed:
                        assert made[-1].is_over
                    else:
                        waiting[made[-1].remote] += 1
                case "take" if waiting.total():
                    taken = await anext(one)
                    assert not taken.is_over
                    waiting[taken.remote] -= 1
                case "cancelled take":
                    task = asyncio.ensure_future(anext(one, None))
                    if not waiting.total() and not closed:
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                case "close":
                    one.close()
                    closed = True
                    waiting.clear()
                case _:
                    pass
        for guid in (ONE, TWO):
            room = 0
            while not closed and one.refusal(guid) is None and room < BACKLOG_EACH:
                one.offer(session(guid))
                room += 1
            assert closed or room == BACKLOG_EACH - waiting[guid]
        one.close()
        assert [each async for each in one] == []

    run(scene())


async def test_closing_ends_what_waits_and_leaves_what_was_taken() -> None:
    one = listener()
    taken, waits = session(), session()
    one.offer(taken)
    assert await anext(one) is taken
    one.offer(waits)
    one.close()
    assert (taken.is_over, waits.is_over) == (False, True)
    late = session()
    one.offer(late)
    assert late.is_over
    taken.abort()


async def test_a_second_close_changes_nothing_and_tells_nobody() -> None:
    one = listener()
    one.close()
    one.close(RelayUnavailable("too late"))
    assert [one] == CLOSED
    assert [each async for each in one] == []


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (None, StopAsyncIteration),
        (ConnectionClosed("the peer is closed"), StopAsyncIteration),
        (RelayUnavailable("refused"), RelayUnavailable),
    ],
)
async def test_everyone_who_waits_is_told_how_it_ended(
    readers: int, error: Any, raised: type[BaseException]
) -> None:
    """Also whoever comes afterwards, as often as they ask."""
    one = listener()

    async def read() -> BaseException:
        try:
            return pytest.fail(f"got {await anext(one)}")
        except (StopAsyncIteration, RelayUnavailable) as told:
            # A task may not end with the one.
            return told

    waiting = [asyncio.create_task(read()) for _ in range(readers)]
    await asyncio.sleep(0)
    one.close(error)
    for told in [*await asyncio.gather(*waiting), await read(), await read()]:
        assert type(told) is raised


async def test_inside_with_it_is_open_and_afterwards_it_is_not() -> None:
    one = listener()

    async def use() -> None:
        async with one:
            one.offer(session())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert [one] == CLOSED


async def test_closing_while_iterating_ends_the_iteration() -> None:
    one = listener()
    seen = 0
    one.offer(session())
    one.offer(session())
    async for each in one:
        seen += 1
        each.abort()
        one.close()
    assert seen == 1
