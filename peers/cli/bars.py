"""Bars for files under way, on a terminal. Elsewhere all of it does nothing."""

import contextlib
from io import TextIOBase
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from protocol.text import shown

if TYPE_CHECKING:
    from typing import IO

    from rich.progress import Progress, TaskID

__all__ = ["Bar", "Bars"]


class Bars:
    """Use it as a context manager: the bars are drawn on the stream while inside; None draws
    none."""

    def __init__(self, stream: TextIOBase | None) -> None:
        self._drawn = None if stream is None else _progress(stream)

    def __enter__(self) -> Self:
        if self._drawn is not None:
            self._drawn.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    @property
    def are_drawn(self) -> bool:
        """Whether anybody sees them."""
        return self._drawn is not None

    def above(self, text: str) -> None:
        """Print one line above the bars. Nothing without bars."""
        if self._drawn is not None:
            from rich.text import Text

            self._drawn.console.print(Text(text), soft_wrap=True)

    def add(self, label: str) -> "Bar":
        """Add a bar."""
        return Bar(self._drawn, label)


class Bar:
    """One of them. Use it as a context manager: it goes when its file is through."""

    def __init__(self, drawn: "Progress | None", label: str) -> None:
        self._drawn = drawn
        self._task: TaskID | None = (
            None if drawn is None else drawn.add_task(shown(label), total=None)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._drawn is not None and self._task is not None:
            with contextlib.suppress(KeyError):
                self._drawn.remove_task(self._task)

    def progress(self, done: int, total: int) -> None:
        """Show the bytes done, and in all."""
        if self._drawn is not None and self._task is not None:
            self._drawn.update(self._task, completed=done, total=total)

    def label(self, text: str) -> None:
        """Show another text before the bar."""
        if self._drawn is not None and self._task is not None:
            self._drawn.update(self._task, description=shown(text))


def _progress(stream: TextIOBase) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=cast("IO[str]", stream), force_terminal=True),
        redirect_stdout=False,
        redirect_stderr=False,
    )
