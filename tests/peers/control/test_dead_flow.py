"""A peer whose flow is dead without a word on either side, with the kernel's own packets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.host.test_netlink import namespace_command

ROOT = Path(__file__).parents[3]


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="the rules and the probes are Linux's")
def test_a_peer_that_is_asked_for_comes_back_before_its_heartbeat_would_tell() -> None:
    command = namespace_command()
    if command is None:
        pytest.skip("this kernel lets nobody here make a network namespace")
    done = subprocess.run(
        (*command, sys.executable, "-X", "dev", "-m", "tests.peers.control.in_dead_flow"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PeerOffline" in done.stdout, "and no request was left to time out"
