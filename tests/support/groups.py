"""Which tests go to one worker, one after the other, and in which order all of them are dealt out.

Those that need the machine for themselves more than others do are a group. So is any other file:
what its tests have in common is made once, and what they have left is looked for once. Groups go to
whichever worker has nothing to do, the long ones first, so that no worker is left with one.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

__all__ = ["FIRST", "GROUPS", "Groups", "group_of", "rank_of"]

GROUPS = (
    "tests/lab/test_figures.py",
    "tests/lab/",
    "tests/peers/conformance/",
    "tests/compat/",
    "tests/chaos/",
    "tests/cluster/test_nodes.py",
    "tests/test_benchmarks.py",
)
"""The first that a test's name begins with is its group."""

FIRST = (
    *GROUPS,
    "tests/js/",
    "tests/integration/",
    "tests/peers/dns/test_bind.py",
    "tests/relay/test_log.py",
)
"""What is dealt out first, in this order."""

LAST = ("tests/protocol/",)
"""What is dealt out last: short ones, with which all workers come to their end together."""


def group_of(nodeid: str) -> str:
    """Return the group of a test, or its file."""
    return next((group for group in GROUPS if nodeid.startswith(group)), nodeid.partition("::")[0])


def rank_of(nodeid: str) -> int:
    """Return where in the order a test belongs."""
    first = next((rank for rank, name in enumerate(FIRST) if nodeid.startswith(name)), len(FIRST))
    return first + nodeid.startswith(LAST)


class Groups(LoadScopeScheduling):
    """Deals groups out in the order in which they were collected.

    It goes by names, as `--dist loadgroup` of pytest-xdist 3.8 sees no group with pytest 9.2.
    """

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # By the number of tests says nothing of how long.

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
