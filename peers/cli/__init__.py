"""The `peer` command."""

from peers.cli.main import main

__all__ = [
    "main",
]
