"""The registration's shell, with a server that a test holds in its hands. Its clock jumps."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

import dns.rcode
import pytest

from peers.config.host_port import HostPort
from peers.dns.events import NOTHING, Followed
from peers.dns.keeper import Keeper
from peers.dns.primary import Primary, Reply
from peers.dns.registration import Registration
from peers.tasks import Tasks
from protocol.dns_records import RecordSets, ZoneRecord, read_zone_record
from protocol.endpoint import SignedEntry
from protocol.errors import (
    Code,
    ConnectionClosed,
    NameServerUnavailable,
    RoamRelayError,
    UpdateRefused,
)
from tests.support.virtual_time import run

OURS, THEIRS = "aa" * 16, "bb" * 16
SERVER = HostPort("192.0.2.53")
NAME = "a" * 52


class Server:
    """Stands for `Primary`. Every answer takes a second, unless a test says something else."""

    guid, zone = NAME, "example.org"

    def __init__(self) -> None:
        self.holds = NOTHING
        self.signs = True
        """Whether the other instance has signed its entries."""
        self.obstacle = ""
        self.updates = 0
        self.forgotten = 0
        self.under_way = 0
        self.error: Exception | None = None
        self.wait: Callable[[], Coroutine[Any, Any, object]] = lambda: asyncio.sleep(1)

    async def look(self) -> Followed:
        await self._answer()
        return self.holds

    async def confirm(self, above: int) -> tuple[Followed, bool]:
        await self._answer()
        return self.holds, self.signs and self.holds.record.seq > above

    async def update(self, followed: Followed, sets: RecordSets) -> Reply:
        self.updates += 1
        await self._answer()
        if followed != self.holds:
            return Reply(SERVER, dns.rcode.NXRRSET)
        self.holds = NOTHING
        for text in sets.get((f"{NAME}.example.org", "TXT"), ()):
            record = read_zone_record([one.strip('"').encode() for one in text.split(" ")])
            assert record is not None
            self.holds = Followed.of(record)
        return Reply(SERVER, dns.rcode.NOERROR, self.obstacle)

    def forget(self) -> None:
        self.forgotten += 1

    async def _answer(self) -> None:
        self.under_way += 1
        assert self.under_way == 1
        try:
            await self.wait()
        finally:
            self.under_way -= 1
        if self.error is not None:
            raise self.error


class Kept:
    """A keeper and what it speaks of."""

    def __init__(self) -> None:
        self.server = Server()
        self.tasks = Tasks()
        self.fault: Exception | None = None
        self.keeper = Keeper(
            cast(Primary, self.server),
            Registration(OURS, refresh=900.0, random=lambda: 1.0),
            self._location,
        )

    def _location(self, above: int) -> tuple[int, Mapping[str, Sequence[SignedEntry]]]:
        if self.fault is not None:
            raise self.fault
        return above + 1, {"chat": ()}

    def start(self) -> None:
        self.tasks.spawn(self.keeper.run())

    @property
    def seq(self) -> int:
        return self.server.holds.record.seq


def test_it_registers_and_withdraws() -> None:
    async def test() -> None:
        kept = Kept()
        kept.start()
        await kept.keeper.published(10)
        assert kept.server.holds.record == ZoneRecord(1, ("chat",), OURS)
        await kept.keeper.withdraw()
        assert kept.server.holds == NOTHING
        assert len(kept.tasks) == 0
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(ConnectionClosed, match="no longer registered"):
            await kept.keeper.published(1)
        kept.keeper.changed()
        await kept.keeper.withdraw()
        assert kept.server.updates == 2

    run(test())


def test_a_refresh_and_a_change_are_sent_when_they_are_due() -> None:
    async def test() -> None:
        kept = Kept()
        kept.start()
        await kept.keeper.published(10)
        await asyncio.sleep(902)
        assert kept.seq == 2
        kept.keeper.changed()
        await kept.keeper.published(10)
        assert kept.seq == 3
        await kept.keeper.withdraw()

    run(test())


@pytest.mark.parametrize("turns", range(30))
def test_a_change_in_any_turn_is_published(turns: int) -> None:
    """In the very turn of an answer too: what was given up must not end what was begun instead."""

    async def test() -> None:
        kept = Kept()
        kept.server.wait = lambda: asyncio.sleep(0)
        kept.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        kept.keeper.changed()
        updates = kept.server.updates
        await kept.keeper.published(10)
        assert kept.server.updates > updates
        await kept.keeper.withdraw()

    run(test())


@pytest.mark.expected_errors("nobody|again|unexpected")
def test_what_nobody_expected_is_logged_once_and_the_registration_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The function that says where this peer is, is ours: what it raises is a fault of ours."""

    async def test() -> None:
        kept = Kept()
        kept.fault = KeyError("nobody thought of it")
        kept.start()
        with pytest.raises(RoamRelayError, match="nobody thought of it") as raised:
            await kept.keeper.published(10)
        assert raised.value.code is Code.INTERNAL
        assert isinstance(raised.value.__cause__, KeyError)
        assert [record.exc_info is not None for record in caplog.records] == [True]
        assert len(kept.tasks) == 1
        kept.fault = None
        await asyncio.sleep(10)
        await kept.keeper.published(0.1)
        assert kept.seq == 1
        await kept.keeper.withdraw()

    with caplog.at_level(logging.WARNING, "peers"):
        run(test())


@pytest.mark.expected_errors("again and again")
def test_what_goes_wrong_at_every_attempt_is_tried_with_pauses() -> None:
    async def test() -> None:
        kept = Kept()
        kept.fault = KeyError("again and again")
        kept.start()
        await asyncio.sleep(600)
        assert 20 < kept.server.forgotten < 40, "a pause of up to 30 s and a second each"
        await kept.tasks.close()
        await kept.keeper.withdraw()
        assert kept.server.updates == 0

    run(test())


def test_a_server_that_is_silent_is_told_and_another_one_may_be_found() -> None:
    async def test() -> None:
        kept = Kept()
        kept.server.error = NameServerUnavailable("silence")
        kept.start()
        with pytest.raises(NameServerUnavailable, match="silence"):
            await kept.keeper.published(10)
        assert kept.server.forgotten == 1
        kept.server.error = None
        kept.server.wait = asyncio.Event().wait
        kept.keeper.changed()
        with pytest.raises(NameServerUnavailable, match="silence"):
            await kept.keeper.published(10)
        await kept.keeper.withdraw()

    run(test())


def test_a_registration_that_has_not_begun_is_waited_for_so_long() -> None:
    async def test() -> None:
        kept = Kept()
        with pytest.raises(NameServerUnavailable, match="within 10 s"):
            await kept.keeper.published(10)
        await kept.keeper.withdraw()
        await kept.keeper.run()
        assert kept.server.updates == 0

    run(test())


def test_another_instance_ends_it_and_its_records_stay() -> None:
    async def test() -> None:
        kept = Kept()
        kept.start()
        await kept.keeper.published(10)
        kept.server.holds = theirs = Followed.of(ZoneRecord(99, ("mail",), THEIRS))
        kept.keeper.changed()
        with pytest.raises(RoamRelayError, match="another instance") as raised:
            await kept.keeper.published(10)
        assert raised.value.code is Code.SUPERSEDED
        await asyncio.sleep(1)
        assert len(kept.tasks) == 0, "for good"
        await kept.keeper.withdraw()
        assert kept.server.holds == theirs

    run(test())


def test_a_record_of_another_instance_that_has_signed_nothing_is_replaced() -> None:
    async def test() -> None:
        kept = Kept()
        kept.start()
        await kept.keeper.published(10)
        kept.server.signs = False
        kept.server.holds = Followed.of(ZoneRecord(99, ("mail",), THEIRS))
        kept.keeper.changed()
        await kept.keeper.published(10)
        assert kept.server.holds.record == ZoneRecord(100, ("chat",), OURS)
        await kept.keeper.withdraw()

    run(test())


def test_what_was_acknowledged_and_is_not_there_is_no_registration() -> None:
    async def test() -> None:
        kept = Kept()
        kept.server.obstacle = "NAME is an alias"
        kept.start()
        with pytest.raises(UpdateRefused, match="NAME is an alias"):
            await kept.keeper.published(10)
        kept.server.obstacle = ""
        kept.server.holds = NOTHING
        updates = kept.server.updates
        await kept.keeper.withdraw()
        assert kept.server.updates > updates, "what is there of it is taken back"

    run(test())


# -- every way out ---------------------------------------------------------------------------------


def test_it_is_withdrawn_where_its_task_was_ended_before() -> None:
    async def test() -> None:
        kept = Kept()
        kept.start()
        await kept.keeper.published(10)
        kept.keeper.changed()
        await asyncio.sleep(0.5)
        await kept.tasks.close()
        await kept.keeper.withdraw()
        assert kept.server.holds == NOTHING

    run(test())


def test_a_withdrawal_takes_three_seconds_at_most() -> None:
    async def test() -> None:
        kept = Kept()
        kept.start()
        await kept.keeper.published(10)
        kept.server.wait = asyncio.Event().wait
        began = asyncio.get_running_loop().time()
        await kept.keeper.withdraw()
        assert 2.9 < asyncio.get_running_loop().time() - began < 3.1
        assert kept.server.under_way == 0
        assert len(asyncio.all_tasks()) == 1

    run(test())


@pytest.mark.parametrize("turns", range(1, 30, 2))
@pytest.mark.parametrize("when", [0.0, 0.5, 1.5, 2.5])
def test_a_withdrawal_that_is_cancelled_anywhere_leaves_nothing(turns: int, when: float) -> None:
    async def test() -> None:
        kept = Kept()
        kept.start()
        await asyncio.sleep(when)
        kept.server.wait = lambda: asyncio.sleep(0)
        withdrawal = asyncio.create_task(kept.keeper.withdraw())
        for _ in range(turns):
            await asyncio.sleep(0)
        withdrawal.cancel()
        await asyncio.wait({withdrawal})
        updates = kept.server.updates
        await asyncio.sleep(1000)
        assert kept.server.under_way == 0
        assert kept.server.updates == updates, "nothing is sent afterwards"
        assert len(kept.tasks) == 0
        assert len(asyncio.all_tasks()) == 1

    run(test())
