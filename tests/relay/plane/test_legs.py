"""Bytes from one leg to the other, piece by piece."""

import asyncio

import pytest

from relay.plane.legs import copy_between


class Leg:
    """A leg by hand: what is put into `says` is read from it; an exception is raised there."""

    def __init__(self, *says: bytes | Exception) -> None:
        self.says: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        for one in says:
            self.says.put_nowait(one)
        self.heard: list[bytes] = []
        self.aborted = 0

    async def read(self) -> bytes:
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def write(self, data: bytes) -> None:
        self.heard.append(data)

    async def write_end(self) -> None:
        self.heard.append(b"")

    def abort(self) -> None:
        self.aborted += 1


async def test_both_ends_are_passed_on() -> None:
    counted: list[tuple[int, int]] = []
    alice, bob = Leg(b"one", b"two", b""), Leg(b"back", b"")
    assert (
        await copy_between(alice, bob, lambda number, size: counted.append((number, size)), 5.0)
        == "finished"
    )
    assert (bob.heard, alice.heard) == ([b"one", b"two", b""], [b"back", b""])
    assert sorted(counted) == [(0, 3), (0, 3), (1, 4)]
    assert (alice.aborted, bob.aborted) == (1, 1)


@pytest.mark.parametrize(
    ("says", "idle", "reason"),
    [((ConnectionResetError(),), 5.0, "reset"), ((b"x",), 0.05, "idle")],
)
async def test_a_leg_that_breaks_or_is_silent_ends_both(
    says: tuple[bytes | Exception, ...], idle: float, reason: str
) -> None:
    alice, bob = Leg(*says), Leg()
    assert await copy_between(alice, bob, lambda number, size: None, idle) == reason
    assert (alice.aborted, bob.aborted) == (1, 1)


async def test_what_nobody_expected_closes_both_too() -> None:
    alice, bob = Leg(RuntimeError("nobody expected this")), Leg()
    with pytest.raises(ExceptionGroup):
        await copy_between(alice, bob, lambda number, size: None, 5.0)
    assert (alice.aborted, bob.aborted) == (1, 1)


async def test_what_came_early_goes_first() -> None:
    counted: list[tuple[int, int]] = []
    alice, bob = Leg(b"two", b""), Leg(b"")
    await copy_between(
        alice,
        bob,
        lambda number, size: counted.append((number, size)),
        5.0,
        early=(b"one", b"back"),
    )
    assert (bob.heard, alice.heard) == ([b"one", b"two", b""], [b"back", b""])
    assert sorted(counted) == [(0, 3), (0, 3), (1, 4)]


async def test_a_leg_that_is_gone_before_it_has_what_came_early_ends_both() -> None:
    class Gone(Leg):
        async def write(self, data: bytes) -> None:
            raise ConnectionResetError

    alice, bob = Leg(), Gone()
    assert (
        await copy_between(alice, bob, lambda number, size: None, 5.0, early=(b"x", b"")) == "reset"
    )
    assert (alice.aborted, bob.aborted) == (1, 1)
