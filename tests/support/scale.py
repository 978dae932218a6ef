"""How much is tried: what the gate has time for, or with NIGHTLY in the environment all of it.

An environment variable and no option of pytest, as modules read it while they are imported, in
every process that takes part.
"""

import os
import resource

from hypothesis import HealthCheck, settings

__all__ = ["NIGHTLY", "load_profile", "of", "raise_descriptors"]

NIGHTLY = bool(os.environ.get("NIGHTLY"))


def of(gate: int, nightly: int) -> int:
    """Return how many, or how long, in this run."""
    return nightly if NIGHTLY else gate


def load_profile() -> None:
    """Let hypothesis try as many examples as there is time for.

    In the gate they are the same in every run, so that it fails by what has been changed; nightly
    they are new ones. How long an example takes says more about the machine than about the code.
    """
    unhurried = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    for name, examples in (("ci", 50), ("nightly", 1000)):
        settings.register_profile(
            name,
            max_examples=examples,
            derandomize=name == "ci",
            print_blob=True,
            deadline=None,
            suppress_health_check=unhurried,
        )
    settings.load_profile("nightly" if NIGHTLY else "ci")


def raise_descriptors() -> int:
    """Let this process, and what it starts, have as many descriptors as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
