"""Which tests go to one worker, one after the other: those that need the machine for themselves
more than others do. Any other test goes to whichever worker has nothing to do.
"""

from xdist.scheduler import LoadScopeScheduling

__all__ = ["GROUPS", "Groups", "group_of"]

GROUPS = (
    "tests/lab/test_figures.py",
    "tests/lab/",
    "tests/compat/",
    "tests/peers/conformance/",
    "tests/chaos/",
    "tests/cluster/test_nodes.py",
    "tests/test_benchmarks.py",
)
"""The first that a test's name begins with is its group."""


def group_of(nodeid: str) -> str:
    """Return the group of a test, or its own name."""
    return next((group for group in GROUPS if nodeid.startswith(group)), nodeid)


class Groups(LoadScopeScheduling):
    """Deals groups out, the largest first, and then the tests that are in none.

    It goes by names, as `--dist loadgroup` of pytest-xdist 3.8 sees no group with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
