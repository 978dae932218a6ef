"""What the relay's work costs, in units of some 10 µs of one core: measured, and rounded up."""

__all__ = ["ANSWER", "BYTE", "EVENT", "EXPOSITION", "MESSAGE", "REQUEST", "SIGNATURE"]

EVENT = 1.0
"""Bytes arrive, however few."""
BYTE = 1 / 256
"""One of them: it is decoded, and copied a few times."""
MESSAGE = 1.0
"""A message that concerns nobody else: it is decoded, and answered."""
REQUEST = 3.0
"""One that leads to another one for somebody else, or to a look into the tables."""
ANSWER = 6.0
"""A request over HTTP is read and answered."""
EXPOSITION = 100.0
"""One for the metrics."""
SIGNATURE = 15.0
"""A signature is made or verified."""
