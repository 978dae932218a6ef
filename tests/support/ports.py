"""Ports that a process is told to listen at."""

import contextlib
import random
import socket

__all__ = ["free_port"]

_FIRST, _LAST = 20_000, 32_000
"""Below those that the kernel gives to whoever connects: one of these is free until its server
listens there, whatever connects meanwhile."""


def free_port() -> int:
    """Return a port that is free for UDP and TCP on 127.0.0.1."""
    for _ in range(200):
        port = random.SystemRandom().randrange(_FIRST, _LAST)
        with (
            contextlib.suppress(OSError),
            socket.socket() as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
