"""What stands behind a hello, before anybody has answered: it is taken once, or not at all."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.session.early import EARLY_BYTES, NO_EARLY, Early
from protocol.session.machine import SessionMachine
from protocol.session.settings import SessionSettings

SETTINGS = SessionSettings()


def parted(revised: bool = True) -> tuple[SessionMachine, SessionMachine]:
    """Two sides whose first path has gone."""
    sides = SessionMachine(SETTINGS, 0.0), SessionMachine(SETTINGS, 0.0)
    for one in sides:
        one.attach(0, 0, SETTINGS.window, 0.0, revised=revised)
        one.data_to_send(0.0)
        one.detach(0.0)
    return sides


def resumed(
    here: SessionMachine, there: SessionMachine, early: Early, *, arrives: int | None = None
) -> bytes:
    """Take a path on both sides; of what stands behind the hello so many bytes arrive before the
    welcome leaves, and nothing else is lost. Return what `here` writes next."""
    data = b"".join(early.frames)
    there.attach(here.received, here.consumed, SETTINGS.window, 1.0, revised=True)
    partial = there.partial
    welcome = there.received, there.consumed, SETTINGS.window
    there.receive(data[: len(data) if arrives is None else arrives], 1.0)
    here.attach(*welcome, 1.1, partial=partial, revised=True, early=early)
    return b"".join(iter(lambda: here.data_to_send(1.1), b""))


def exchange(here: SessionMachine, there: SessionMachine, now: float) -> None:
    for _ in range(300):
        there.receive(here.data_to_send(now), now)
        here.receive(there.data_to_send(now), now)
        if not here.outstanding:
            break


def kinds(data: bytes) -> list[list[object]]:
    reader = msgpack.Unpacker(raw=False)
    reader.feed(data)
    return [frame for frame in reader if frame[0] in (0, 8)]


def test_the_oldest_that_is_missing_leaves_with_the_hello_and_is_not_sent_again() -> None:
    here, there = parted()
    messages = [b"%d" % number * 150 for number in range(60)]
    for message in messages:
        here.send(message)
    early = here.early(0.5)
    behind = resumed(here, there, early)
    arrived = there.received
    assert arrived > 10
    assert list(there.inbox) == messages[:arrived]
    assert all(frame[1] > arrived for frame in kinds(behind)), "nothing is sent twice"  # type: ignore[operator]
    there.receive(behind, 1.2)
    exchange(here, there, 1.3)
    assert list(there.inbox) == messages
    assert here.outstanding == 0


def test_it_is_no_more_than_a_first_flight() -> None:
    here, _ = parted()
    for size in (0, 1, 5000, 1 << 20, 1 << 20):
        here.send(bytes(size))
    for _ in range(5000):
        here.send(b"")
    size = sum(map(len, here.early(0.5).frames))
    assert 16_384 <= size <= 20_000 < EARLY_BYTES


def test_a_path_that_delivers_and_an_old_party_get_nothing_early() -> None:
    here, there = parted()
    here.send(b"one")
    resumed(here, there, NO_EARLY)
    assert here.early(1.2) is NO_EARLY
    old, _ = parted(revised=False)
    old.send(b"one")
    assert old.early(0.5) is NO_EARLY
    assert SessionMachine(SETTINGS, 0.0).early(0.0) is NO_EARLY


SIZES = st.lists(st.sampled_from([0, 1, 200, 900, 3000, 70_000]), min_size=1, max_size=12)


@given(SIZES, st.integers(0, 400), st.data())
def test_cut_at_any_byte_it_is_neither_lost_nor_doubled(
    sizes: list[int], taken: int, data: st.DataObject
) -> None:
    """Of one path a part arrives, and no answer; the next one is welcomed, whole or cut again."""
    here, there = parted()
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    for message in messages:
        here.send(message)
    for turn in range(data.draw(st.integers(1, 3))):
        early = here.early(1.0)
        size = sum(map(len, early.frames))
        cut = data.draw(st.integers(0, size), label="cut")
        answered = data.draw(st.booleans(), label="answered")
        if answered:
            resumed(here, there, early, arrives=cut)
            here.detach(2.0)
        else:
            there.attach(here.received, here.consumed, SETTINGS.window, 1.0, revised=True)
            there.receive(b"".join(early.frames)[:cut], 1.0)
        there.detach(2.0)
        assert list(there.inbox) == messages[: there.received], turn
    early = here.early(2.5)
    there.receive(resumed(here, there, early), 3.0)
    exchange(here, there, 3.0)
    assert list(there.inbox) == messages
    assert here.outstanding == 0


def test_every_cut_of_one_flight() -> None:
    """The same without chance, over the frames of a small flight."""
    size = sum(map(len, _small()[0].early(1.0).frames))
    for cut in range(size + 1):
        here, there, messages = _small()
        there.attach(0, 0, SETTINGS.window, 1.0, revised=True)
        there.receive(b"".join(here.early(1.0).frames)[:cut], 1.0)
        there.detach(1.0)
        there.receive(resumed(here, there, here.early(2.0)), 3.0)
        exchange(here, there, 3.0)
        assert list(there.inbox) == messages, cut


def _small() -> tuple[SessionMachine, SessionMachine, list[bytes]]:
    here, there = parted()
    messages = [b"", b"a" * 10, b"b" * 1500, b"c" * 60]
    for message in messages:
        here.send(message)
    return here, there, messages


@pytest.mark.parametrize("refused", [True, False])
def test_two_paths_at_once(refused: bool) -> None:
    """Each begins with the same; one is refused, or is taken and then replaced by the other."""
    here, there, messages = _small()
    first, second = here.early(1.0), here.early(1.1)
    if not refused:
        resumed(here, there, first)
        here.send(b"d" * 30)
        there.receive(here.data_to_send(1.2), 1.2)
        here.receive(there.data_to_send(1.2), 1.2)
        messages.append(b"d" * 30)
    behind = resumed(here, there, second)
    there.receive(behind, 1.4)
    exchange(here, there, 1.5)
    assert list(there.inbox) == messages
    assert here.outstanding == 0


def test_what_an_unanswered_path_has_brought_is_believed_on_the_next() -> None:
    """The messages were on no path that this side has had."""
    here, there, messages = _small()
    there.attach(0, 0, SETTINGS.window, 1.0, revised=True)
    there.receive(b"".join(here.early(1.0).frames), 1.0)
    assert there.received == len(messages)
    here.attach(there.received, there.consumed, SETTINGS.window, 2.0, revised=True)
    assert here.outstanding == 0


def test_its_acknowledgement_tells_how_far_the_other_side_is() -> None:
    here, there, _ = _small()
    resumed(here, there, here.early(0.5))
    assert not here.data_to_send(1.1), "all of it is on its way"
    here.receive(there.data_to_send(1.2), 1.2)
    assert here.outstanding == 0
    assert here.progressed == 1.2
