"""Runs a command, `relay` or `peers`, of whichever version PYTHONPATH names, and says first on
standard output where that version was loaded from. A program of its own: it imports no test."""

import importlib
import json
import runpy
import sys

if __name__ == "__main__":
    del sys.argv[0]
    loaded = [importlib.import_module(name).__file__ for name in (sys.argv[0], "protocol")]
    print(json.dumps({"loaded": loaded}), flush=True)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
