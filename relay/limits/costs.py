"""What the relay's work costs, in units of some 10 µs of one core: measured, and rounded up."""

__all__ = [
    "ANSWER",
    "ARRIVAL",
    "BYTE",
    "EVENT",
    "EXPOSITION",
    "HANDSHAKE",
    "MESSAGE",
    "REQUEST",
    "SIGNATURE",
    "TLS_BYTE",
]

ARRIVAL = 5.0
"""A connection is accepted, heard, and closed again."""
HANDSHAKE = 40.0
"""One of TLS, with a key of an elliptic curve; 100 with one of RSA."""

EVENT = 1.0
"""Bytes arrive, however few."""
BYTE = 1 / 256
"""One of them: it is decoded, and copied a few times. Empty frames and requests without a body cost
no more for each of theirs."""
TLS_BYTE = 1 / 16
"""One of those that TLS has beside what it carries: a record of one byte has 22, and takes
13 µs."""
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
