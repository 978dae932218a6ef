"""The measured moves: how they are counted and told, without a network; and some with one."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab.links import ROOT
from tests.lab.moves import __main__ as command
from tests.lab.moves.cells import MODES, SIZE, Cell, Chosen, Mover, Row, cells, rival_cells
from tests.lab.moves.conversation import Splitter
from tests.lab.moves.counting import Tally, Window, percentile, silence, tally, worse
from tests.lab.moves.play import Measured, play
from tests.lab.moves.rivals.catalog import RIVALS, Rival
from tests.lab.moves.tables import Run, from_json, markdown, put_into, summary, to_json
from tests.lab.network import LabUnavailable

RUN = Run("2 cores", "python -m tests.lab.moves", "2026-11-27")


def cell(**given: object) -> Cell:
    usual = {"subject": "ours", "row": Row.HARD, "mode": "p2p", "mover": Mover.CALLEE}
    return Cell(**{**usual, "round_trip_ms": 50, "loss": 0, **given})


WHOLE = Tally(100, 0, 0, 0)


def measured(*silences: float, counts: Tally = WHOLE, **given: object) -> Measured:
    return Measured(cell(**given), silences, counts, (), 0.5)


# -- counting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "numbers", "expected"),
    [
        (3, [0, 1, 2], Tally(3, 0, 0, 0)),
        (4, [0, 2], Tally(4, 2, 0, 0)),
        (3, [0, 1, 1, 2, 1], Tally(3, 0, 2, 0)),
        (4, [0, 2, 1, 3], Tally(4, 0, 0, 1)),
        (4, [3, 0, 1, 0], Tally(4, 1, 1, 2)),
        (2, [], Tally(2, 2, 0, 0)),
        (0, [], Tally(0, 0, 0, 0)),
    ],
)
def test_what_is_lost_doubled_and_reordered_is_counted(
    sent: int, numbers: list[int], expected: Tally
) -> None:
    assert tally(sent, numbers) == expected
    assert expected.whole == (numbers == list(range(sent)))


def test_tallies_add_up() -> None:
    assert Tally(1, 2, 3, 4) + Tally(10, 20, 30, 40) == Tally(11, 22, 33, 44)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # Inside the window the usual interval is taken off, and before it nothing is counted.
        ([1.0, 9.9, 10.0, 10.1, 10.6, 10.7], 0.4),
        # What began before counts from the beginning.
        ([1.0, 9.9, 10.3, 10.4], 0.3),
        # What begins in a window ends in it: the next one has what comes after.
        ([10.0, 10.1, 19.9, 20.1], 9.7),
        ([10.0, 10.1, 30.0], 0.0),
        ([9.0, 9.9], math.inf),
        ([9.0, 20.1], math.inf),
        ([], math.inf),
    ],
)
def test_the_silence_of_a_move(times: list[float], expected: float) -> None:
    assert silence(times, Window(10.0, 20.0), 0.1) == pytest.approx(expected)


def test_the_worse_direction_counts() -> None:
    window = Window(10.0, 20.0)
    assert worse([[10.2, 10.3], [10.5, 10.6]], window, 0.1) == pytest.approx(0.5)
    assert worse([[10.2], []], window, 0.1) == math.inf


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(20, 0, -1)]
    assert percentile(values, 0.5) == 10
    assert percentile(values, 0.95) == 19
    assert percentile([3.0], 0.95) == 3
    assert percentile([1.0, math.inf], 0.95) == math.inf


def test_a_stream_is_cut_into_messages() -> None:
    splitter = Splitter()
    stream = b"a" * SIZE + b"b" * SIZE
    assert splitter.feed(stream[: SIZE - 1]) == []
    assert splitter.feed(stream[SIZE - 1 :]) == [stream[:SIZE], stream[SIZE:]]


# -- cells ----------------------------------------------------------------------------------------


def test_all_rows_in_every_mode_for_both_that_can_move() -> None:
    everything = cells(Chosen())
    assert len(everything) == len(set(everything))
    hard = [one for one in everything if one.row is Row.HARD]
    assert len(hard) == 3 * 3 * len(MODES) * 2
    assert {one.mode for one in everything if one.row is Row.RESTART} == {"central"}
    assert {one.loss for one in everything if one.row is not Row.HARD} == {0}
    assert all(one.subject == "ours" for one in everything)


def test_a_restart_is_for_rivals_that_have_a_server() -> None:
    told = rival_cells(Chosen(rows=(Row.RESTART,)), ["quic", "nats"], ["nats"])
    assert {one.subject for one in told} == {"nats"}


def test_more_moves_of_a_night_where_the_goals_are_counted_most() -> None:
    assert cell().moves(20, nightly=True) == 100
    assert cell(loss=2).moves(20, nightly=True) == 100
    assert cell(loss=5).moves(20, nightly=True) == 20
    assert cell(row=Row.SOFT).moves(20, nightly=True) == 20
    assert cell(subject="quic").moves(20, nightly=True) == 20
    assert cell().moves(5, nightly=False) == 5


# -- tables ---------------------------------------------------------------------------------------


def test_results_outlive_json() -> None:
    results = [
        measured(0.1, math.inf, counts=Tally(9, 1, 0, 2), loss=2),
        measured(0.2, mode="auto"),
    ]
    text = json.dumps(to_json(RUN, results, {"iroh": "not installed"}), allow_nan=False)
    assert from_json(json.loads(text)) == (RUN, results, {"iroh": "not installed"})


def test_a_table_for_each_row_with_the_rivals_behind_ours() -> None:
    results = [
        measured(0.09, subject="quic", mode="", counts=Tally(9, 3, 0, 0)),
        measured(0.5, math.inf, row=Row.SOFT),
        measured(0.161, 0.1802, 0.17, counts=Tally(1234, 0, 0, 0)),
        measured(0.11, mode="auto", mover=Mover.CALLER),
        measured(0.1, 0.13, 0.12, mode="auto"),
        measured(0.1, 0.12, 0.13, loss=5),
        measured(2.5, row=Row.RESTART, mode="central", loss=0),
    ]
    lines = markdown(RUN, results, {"quic": "QUIC"}).splitlines()
    hard = next(place for place, line in enumerate(lines) if line.startswith("**Hard move**"))
    assert "of 3 each where" in lines[hard]
    assert lines[hard + 2] == (
        "| RTT | lost on the way | who moves | goal | `p2p` | `auto` | QUIC |"
    )
    assert lines[hard + 4 : hard + 8] == [
        "| 50 ms | 0 % | callee | 110 | **170 / 180 / 180** | **120 / 130 / 130** |"
        " 90 / 90 / 90 (1), 3 lost |",
        "| 50 ms | 0 % | caller | 110 |  | 110 / 110 / 110 (1) |  |",
        "| 50 ms | 5 % | callee |  | 120 / 130 / 130 |  |  |",
        "",
    ]
    assert lines[hard + 8] == (
        "Ours: 10 in 4 conversations with 1,534 messages; 0 lost, 0 doubled, 0 reordered."
    )
    assert "| 50 ms | 0 % | callee | 50 | **500 / no end / no end** |" in lines
    assert "| 50 ms | 0 % | nobody; callee | 1,000 | **2,500 / 2,500 / 2,500** |" in lines


def test_a_conversation_that_did_not_begin_is_told() -> None:
    told = markdown(RUN, [measured(counts=Tally(0, 0, 0, 0))], {})
    assert told.splitlines()[-3].endswith("| did not begin |")
    rival = measured(0.1, subject="quic", mode="")
    assert "Of ours nothing has been measured here." in markdown(RUN, [rival], {})


def test_results_go_on_where_an_earlier_run_ended(tmp_path: Path) -> None:
    file = tmp_path / "moves.json"
    first = command._Results(RUN, file, False)
    first.add(measured(0.1))
    first.add(measured(mode="auto"))
    later = command._Results(Run("2 cores", "another", "2026-11-28"), file, True)
    assert later.has(cell())
    assert not later.has(cell(mode="auto")), "what did not begin is tried again"
    later.add(measured(0.2, mode="auto"))
    run, results, _ = from_json(json.loads(file.read_text()))
    assert results == [measured(0.1), measured(0.2, mode="auto")]
    assert run.command == "python -m tests.lab.moves`, `another"
    assert command._Results(RUN, file, False).results == []


def test_labs_that_ran_side_by_side_are_one_table(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.json", "b.json")]
    for number, file in enumerate(files):
        other = command._Results(Run("2 cores", f"lab {number}", "2026-11-28"), file, False)
        other.add(measured(0.1 * number + 0.1))
        other.add(measured(0.3, mode=MODES[number + 1]))
    both = command._Results(RUN, tmp_path / "both.json", False)
    for file in files:
        both.take(file)
    both.keep()
    run, results, _ = from_json(json.loads((tmp_path / "both.json").read_text()))
    assert results == [measured(0.1), *(measured(0.3, mode=MODES[number]) for number in (1, 2))]
    assert run.command == "python -m tests.lab.moves`, `lab 0`, `lab 1"
    told = command._Results(Run("2 cores", "", "2026-11-28"), None, False)
    told.take(files[1])
    assert "`lab 1`" in told.table()


def test_what_the_relay_took_to_start_is_told_below_the_restarts() -> None:
    one = Measured(cell(row=Row.RESTART), (1.0,), Tally(1, 0, 0, 0), (0.3, 0.5), 0.1)
    assert "served 300 ms after its start in the middle, 500 ms at most (2 starts)" in markdown(
        RUN, [one], {}
    )


def test_one_line_says_what_came_of_a_cell() -> None:
    told = summary(measured(0.1, 0.2, counts=Tally(1000, 1, 2, 3)))
    assert told == (
        "p50 100 ms, p95 200 ms, longest 200 ms; of 1,000 messages 1 lost, 2 doubled, 3 reordered"
    )


def test_the_page_keeps_what_is_round_the_table() -> None:
    page = "a\n<!-- moves: begin -->\nold\n<!-- moves: end -->\nb\n"
    new = put_into(page, "new\n")
    assert new == page.replace("old", "new")
    with pytest.raises(ValueError, match="no place"):
        put_into("a", "new\n")
    put_into((ROOT / "docs" / "lab.md").read_text(), "new\n")


def test_what_is_not_there_is_said_in_words() -> None:
    missing = Rival("quic", "QUIC", "", "no_such_module_here").missing
    assert missing == "no_such_module_here is not installed (the extra `rivals`)"
    assert len({one.name for one in RIVALS}) == len(RIVALS)
    assert all((ROOT / (one.module.replace(".", "/") + ".py")).exists() for one in RIVALS)


def test_the_command_is_told_without_where_results_go(tmp_path: Path) -> None:
    words = ["--row", "hard", "--json", str(tmp_path / "a.json"), "--go-on", "--write"]
    assert command._command(words) == "python -m tests.lab.moves --row hard"


# -- with a network -------------------------------------------------------------------------------


def played(one: Cell, moves: int) -> Measured:
    try:
        return play(one, moves, settled=0.2)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))


def test_one_hard_move_loses_nothing() -> None:
    told = played(cell(mode="auto", mover=Mover.CALLER), 1)
    assert told.counts.whole, told
    assert len(told.silences) == 1
    assert told.silences[0] < math.inf


@pytest.mark.nightly
@pytest.mark.parametrize("mover", Mover)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", [Row.HARD, Row.SOFT, Row.ABSENCE])
def test_every_row_loses_nothing(row: Row, mode: str, mover: Mover) -> None:
    told = played(cell(row=row, mode=mode, mover=mover), 2)
    assert told.counts.whole, told
    assert len(told.silences) == 2


@pytest.mark.nightly
def test_a_relay_that_is_killed_and_restarted_costs_no_message() -> None:
    told = played(cell(row=Row.RESTART, mode="central"), 2)
    assert told.counts.whole, told
    assert len(told.starts) == 2


@pytest.mark.nightly
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    words = ["--row", "hard", "--mode", "p2p", "--rtt", "50", "--loss", "0", "--moves", "50"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.lab.moves", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if "cells" not in first:
            pytest.skip(first)
        while not list(tmp_path.glob("lab-*")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 130, told
        assert "Traceback" not in told
        end = time.monotonic() + 60
        while list(tmp_path.iterdir()):
            assert time.monotonic() < end, list(tmp_path.iterdir())
    finally:
        process.kill()
        process.wait(60)
