"""Lets Ctrl-C end the `peer` command without a word while its modules are imported, which takes it
half a second: Python itself would print where it was. A program that imports the library keeps
its own ways.
"""

import os
import signal
import sys

__all__: list[str] = []


def _is_command() -> bool:
    """Whether this process is `python -m peers`, or the script that comes with this Python."""
    if sys.argv[:1] == ["-m"]:  # As long as the package of the module is imported.
        words = sys.orig_argv
        return words[words.index("-m") + 1 :][:1] == ["peers"]
    script = os.path.realpath(sys.argv[0]) if sys.argv else ""
    name = os.path.basename(script).removesuffix(".exe")
    folder = os.path.realpath(os.path.dirname(sys.executable))
    return name == "peer" and os.path.dirname(script) == folder


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
