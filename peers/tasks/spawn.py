"""Tasks in the background, with an owner."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Spawn"]

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None] | None"]
"""Gives a coroutine a task with an owner; None where the owner is closed."""
