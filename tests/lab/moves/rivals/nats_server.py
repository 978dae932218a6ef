"""The NATS server, as a program of Python's: it becomes the one beside this interpreter.

python -m tests.lab.moves.rivals.nats_server ADDRESS
"""

import os
import sys
from pathlib import Path

__all__ = ["PORT"]

PORT = 4222

if __name__ == "__main__":
    program = Path(sys.executable).with_name("nats-server")
    os.execv(program, [program, "--addr", sys.argv[1], "--port", str(PORT)])
