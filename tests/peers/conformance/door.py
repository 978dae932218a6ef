"""What the kit starts in place of a party: it hands its standard streams to the nursery, and ends
when the party does. It imports next to nothing: `python -I -S door.py SOCKET KIND FAULT [PORT]`.
"""

import os
import signal
import socket
import sys


def packed(texts: list[str]) -> bytes:
    """Return MessagePack of short texts."""
    encoded = [text.encode() for text in texts]
    return bytes([0x90 | len(texts)]) + b"".join(b"\xd9" + bytes([len(t)]) + t for t in encoded)


nursery = socket.socket(socket.AF_UNIX)
nursery.connect(sys.argv[1])
kind, fault, *rest = sys.argv[2:]
socket.send_fds(nursery, [packed([kind, fault, rest[0] if rest else ""])], [0, 1, 2])
party = int(nursery.recv(32))
signal.signal(signal.SIGTERM, lambda *_: os.kill(party, signal.SIGTERM))
for descriptor in (0, 1):
    os.close(descriptor)
while nursery.recv(32):
    pass
