"""The benchmarks run: every part, as small as it goes. Their figures are judged by nobody here."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import environment


@pytest.mark.parametrize(
    ("part", "flags", "contenders"),
    [
        (
            "signaling",
            ("--round-trips", "800"),
            {"roam-relay, raw carrier", "roam-relay, WebSocket", "nats-server (Go)"},
        ),
        pytest.param(
            "peers",
            ("--peers", "100", "--idle", "0.1"),
            {"roam-relay, raw carrier", "roam-relay, WebSocket", "nats-server (Go)"},
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "growth",
            (
                *("--peers", "40", "--peers", "80", "--idle", "0.1", "--round-trips", "400"),
                *("--injected", "100"),
            ),
            {"roam-relay, raw carrier", "roam-relay, raw carrier, in memory alone"},
            marks=pytest.mark.nightly,
        ),
        ("proofs", ("--proving", "2"), {"roam-relay", "Python's ssl"}),
        pytest.param(
            *("sessions", ("--open", "2", "--idle", "0.1"), {"roam-relay"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *("bulk", ("--mebibytes", "8"), {"roam-relay, plane", "loopback, no server"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *("messages", ("--count", "500"), {"roam-relay, direct path", "nats-py"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *("conversations", ("--letters", "200"), {"roam-relay, conversation"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *("letters", ("--letters", "100"), {"roam-relay", "a peer"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *("apart", ("--letters", "20"), {"roam-relay, conversation by letter"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *("gap", ("--moves", "2"), {"roam-relay, central", "roam-relay, auto"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *("setup", ("--sessions", "2"), {"roam-relay, p2p", "roam-relay"}),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "nodes",
            ("--mebibytes", "8", "--round-trips", "1000", "--injected", "1000"),
            {"alone", "two nodes, within one", "--nodes 1", "--nodes 2"},
            marks=pytest.mark.nightly,
        ),
        ("names", ("--queries", "200", "--moves", "2"), {"roam-relay, its own zone"}),
    ],
)
def test_each_part_gives_its_figures(
    part: str, flags: tuple[str, ...], contenders: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--json", "--runs", "1", "--part", part, *flags],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1],
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert contenders <= {row["contender"] for row in rows}
    for row in rows:
        assert row["value"] >= 0, row
        assert math.isfinite(row["value"]), row


def test_the_shape_of_the_code_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.shape", "--json", "--runs", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1],
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["mode"] for row in found["connect"]] == ["p2p", "central", "combined", "auto"]
    for row in found["connect"]:
        assert row["steps"] >= row["calls"] > row["files"] >= row["rooms"] > 1, row
    assert found["constructors"]
    assert found["import"]["modules"] > 1
