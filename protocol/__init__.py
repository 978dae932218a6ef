"""The protocol between peers and relays: bytes and events in, bytes and events out.

No I/O and no clock: the shells in `relay` and `peers` bring both.
"""
