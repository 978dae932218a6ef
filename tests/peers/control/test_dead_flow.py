"""A peer whose flow is dead without a word on either side, with the kernel's own packets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.host.test_netlink import namespace_command

ROOT = Path(__file__).parents[3]
HEARTBEAT = 15.0
"""Seconds after which a peer that is idle would ask by itself."""


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="the rules and the probes are Linux's")
@pytest.mark.parametrize("ways", ["one", "both", "reset"])
@pytest.mark.parametrize("whose", ["callee", "caller"])
def test_a_request_over_a_dead_flow_is_answered_before_a_heartbeat_would_tell(
    whose: str, ways: str
) -> None:
    command = namespace_command()
    if command is None:
        pytest.skip("this kernel lets nobody here make a network namespace")
    done = subprocess.run(
        (*command, sys.executable, "-X", "dev", "-m", "tests.peers.control.in_dead_flow")
        + (whose, ways),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # The first request itself: nobody was told that the other is away, or had to ask again.
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(done.stdout.split()[0]) < HEARTBEAT
