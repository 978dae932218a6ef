"""Fuzzing: what anybody may send, against each place that reads it.

A target takes bytes and raises only where something is wrong; what may be raised is caught inside
it. `targets.py` names them; `python -m tests.fuzz` lets a fuzzer look for more.
"""
