"""What all tests of the protocol share: helpers importable by name, and no test by the clock."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[2]))

# How long an example takes says more about the machine than about the code.
settings.register_profile(
    "protocol",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("protocol")
