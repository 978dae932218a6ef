"""`python -m peers` is the `peer` command."""

from peers.cli import main

main()
