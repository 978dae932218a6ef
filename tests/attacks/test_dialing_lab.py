"""Strangers who make a peer dial a host behind it: SYNs counted there by nftables.

`python -m tests.attacks` prints the table.
"""

import os
from collections.abc import Iterator

import pytest

from tests.attacks.lab import ATTACKS, attacked, lab
from tests.lab.network import LabUnavailable, Network

NAMES = 16
"""Connections that a peer makes to one address because a name says so."""
TOLD = 4
"""To one address because it was told; to one network it is twice as many."""
LATE = 3
"""More SYNs on a busy machine: the next socket begins before the refusal of the first is read."""
SYNS = 10
"""To a host that says nothing, for each connection: from three sockets, and repeated."""
MOST = {
    "10 look-ups of a name, signed records": 3 * NAMES,
    "10 look-ups of a name, SRV and A records": 3 * NAMES,
    "40 requests in combined, ports beside the caller": NAMES,
    "the same, a port of a network by each key": 2 * TOLD,
    "40 sessions of a stranger that calls, in auto": 2 * TOLD,
    "40 sessions, its private address": 0,
    "40 sessions, well-known ports": 0,
}


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    try:
        with lab() as made:
            yield made
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))


@pytest.mark.nightly
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_host_behind_a_peer_gets_a_few_syns_whoever_names_it_and_how(
    net: Network, attack: str
) -> None:
    most = MOST.get(attack, TOLD)
    assert attacked(net, attack, silent=False) <= most + min(most, LATE)
    assert attacked(net, attack, silent=True) <= SYNS * most
