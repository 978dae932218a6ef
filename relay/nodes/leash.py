"""A program that ends with the one that has started it, however that ends: `leash.py PID COMMAND…`.

Run as a file, and imports nothing of ours: it is there until it has become the command.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    _, parent, *command = sys.argv
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        sys.exit(1)  # It has ended meanwhile.
    os.execv(command[0], command)
