"""What a command line asks for, when it was read."""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from peers.cli.terminal import Terminal

__all__ = ["Invocation", "Work"]

Work = Callable[[Terminal], Coroutine[Any, Any, None]]


class Invocation(msgspec.Struct, frozen=True):
    """The work of a command, and how it is shown."""

    work: Work
    as_json: bool
    verbose: bool
