"""Which tests are measured by coverage, and how the others are not.

On Python 3.11 a process that is measured computes twice as long, and so does whatever it starts.
Tests that reach hardly a branch that no other test reaches are not measured where they compute
long: those of whole programs and whole peers, and those that try many examples. They run all the
same. What was left out so is four branches in a thousand, for a sixth of what the gate computed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from coverage import Coverage

__all__ = ["UNMEASURED", "unmeasured"]

UNMEASURED = (
    "tests/attacks/",
    "tests/chaos/",
    "tests/cluster/test_nodes.py",
    "tests/cluster/test_failover.py",
    "tests/cluster/test_registration.py",
    "tests/compat/",
    "tests/integration/",
    "tests/js/",
    "tests/lab/",
    "tests/peers/control/test_refusal.py",
    "tests/peers/conversations/test_durable.py",
    "tests/peers/conversations/test_killed.py",
    "tests/peers/dns/test_bind.py",
    "tests/peers/dns/test_registration.py",
    "tests/peers/dns/test_update.py",
    "tests/peers/host/test_netlink.py",
    "tests/peers/roaming/test_driver.py",
    "tests/peers/roaming/test_pauses.py",
    "tests/peers/roaming/test_sessions.py",
    "tests/peers/roaming/test_ways.py",
    "tests/peers/test_blocked.py",
    "tests/peers/test_cancellation.py",
    "tests/peers/test_finality.py",
    "tests/peers/test_guards.py",
    "tests/peers/test_peer.py",
    "tests/peers/test_program_errors.py",
    "tests/peers/test_programs.py",
    "tests/peers/test_public.py",
    "tests/peers/test_stopped.py",
    "tests/peers/transport/test_websocket.py",
    "tests/protocol/test_codec.py",
    "tests/protocol/test_messages.py",
    "tests/protocol/test_more_vectors.py",
    "tests/protocol/test_rules.py",
    "tests/protocol/test_session_early.py",
    "tests/protocol/test_session_pace.py",
    "tests/protocol/test_session_parts.py",
    "tests/protocol/test_session_roaming.py",
    "tests/protocol/test_vectors.py",
    "tests/relay/broker/test_broker.py",
    "tests/relay/dashboard/test_page.py",
    "tests/relay/http/test_behind_proxies.py",
    "tests/relay/http/test_hostile_upgrade.py",
    "tests/relay/mailbox/test_on_sockets.py",
    "tests/relay/presence/test_turns.py",
    "tests/relay/test_log.py",
    "tests/relay/test_main.py",
    "tests/relay/test_place.py",
    "tests/relay/test_server.py",
    "tests/soak/",
    "tests/test_architecture.py",
    "tests/test_benchmarks.py",
    "tests/test_reference.py",
)
"""The beginnings of the names of tests that are not measured."""

CHILDREN = "COVERAGE_PROCESS_CONFIG"
"""The variable by which coverage's `patch = ["subprocess"]` reaches what a process starts."""


@contextmanager
def unmeasured() -> Iterator[None]:
    """Measure neither this process nor what it starts, for so long."""
    measuring = Coverage.current()
    if measuring is None:
        yield
        return
    children = os.environ.pop(CHILDREN, None)
    measuring.stop()
    try:
        yield
    finally:
        measuring.start()
        if children is not None:
            os.environ[CHILDREN] = children
