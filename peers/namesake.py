"""Says in words, and before anything else, that another `protocol` stands in the way of ours.

A program's own `protocol.py` comes first on its path; the error would name a module of ours that
cannot be found.
"""

import sys

__all__: list[str] = []

try:
    from protocol.errors import RoamRelayError as RoamRelayError
except ImportError as error:
    found = sys.modules.get("protocol")
    if found is None or not (error.name or "").startswith("protocol"):
        raise
    raise ImportError(
        f"{found.__file__ or found} is imported as 'protocol', which is a package of Roam Relay's: "
        "give it another name",
        name="protocol",
    ) from None
