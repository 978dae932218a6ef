"""A NAT that forgets quiet connections, as real ones do but sooner: the kernel's, with a timeout of
some seconds, that lets no connection in which it has not seen begin."""

import os
import re
from pathlib import Path

import pytest

from tests.lab.nats import RELAYS, sites
from tests.lab.network import LabUnavailable
from tests.lab.programs import Commands

FORGETS = 3
"""Seconds."""


@pytest.mark.nightly
def test_a_path_that_died_of_quiet_teaches_how_long_the_next_one_may_be(tmp_path: Path) -> None:
    try:
        with sites("port-restricted", "open") as net:
            settings = "/proc/sys/net/netfilter/nf_conntrack_tcp"
            net["alice-router"].run(
                "sh",
                "-c",
                f"echo {FORGETS} > {settings}_timeout_established; echo 0 > {settings}_loose",
            )
            commands = Commands(tmp_path, RELAYS[4], session="idle_interval = 60\n")
            with (
                commands.relay(net["relay"]),
                commands.listen(net["bob"]) as (guid, callee),
            ):
                said = commands.quiet_call(net["alice"], guid)
                callee.until('"line 0"', callee.out)
                found = re.match(r"every ([0-9.]+) s: a path died after ([0-9.]+) s", said)
                assert found, said
                assert float(found[1]) < float(found[2])
                assert float(found[2]) >= FORGETS
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
