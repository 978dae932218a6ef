"""The tour: the draft's figures, one after the other, with real programs in network namespaces.

    python -m tests.lab

draws the network, says what happens, and ends with a table of what was measured.
"""

import sys
import time

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.lab.draft import Draft
from tests.lab.drawing import drawing, in_use
from tests.lab.hands_on import keep_up
from tests.lab.network import LabUnavailable
from tests.lab.results import lines, table
from tests.lab.scenes import SCENES, Scene
from tests.lab.stage import RESULTS, stage

UNAVAILABLE = 3
"""The exit code where this machine cannot make the lab."""
_READING = 1.5
"""Seconds to look at a step where nobody is asked to press a key."""


class _Guide:
    """Shows each step of a scene: in colours on a terminal, else as plain text."""

    def __init__(self, console: Console, pause: bool) -> None:
        self._console = console
        self._pause = pause and console.is_terminal and sys.stdin.isatty()
        self._lab: Draft | None = None

    def begins(self, lab: Draft) -> None:
        self._lab = lab

    def say(self, text: str) -> None:
        console = self._console
        console.print(f"\n{text}", style="bold", soft_wrap=True)
        if self._lab is not None:
            for line in drawing(self._lab):
                console.print(f"    {line}", style="cyan", soft_wrap=True)
            for line in in_use(self._lab):
                console.print(f"    {line}", soft_wrap=True)
        if self._pause:
            console.input("    [dim](Enter goes on)[/dim] ")
        elif console.is_terminal:
            time.sleep(_READING)


def _play(console: Console, scenes: tuple[Scene, ...], pause: bool) -> None:
    for scene in scenes:
        console.rule(f"{scene.name}: {scene.title}", characters="─")
        guide = _Guide(console, pause)
        with stage(audience=guide) as on_stage:
            scene.play(on_stage)


def _show(console: Console) -> None:
    if not console.is_terminal:
        print("\n" + "\n".join(lines(RESULTS)))
        return
    columns, *rows = table(RESULTS)
    shown = Table(title="what was measured", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        shown.add_column(column, no_wrap=column not in ("scene", "addresses"), overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--no-pause", is_flag=True, help="Do not wait for Enter between steps.")
@click.option(
    "--only",
    type=click.Choice([scene.name for scene in SCENES]),
    multiple=True,
    help="Play this scene (repeatable).",
)
@click.option("--shell", is_flag=True, help="Play nothing: keep the network up for your own hands.")
def main(no_pause: bool, only: tuple[str, ...], shell: bool) -> None:
    """Play the draft's figures between network namespaces.

    Needs Linux, iproute2 and util-linux, and root or user namespaces. Nothing is left afterwards,
    nor after Ctrl-C.
    """
    console = Console(highlight=False)
    try:
        if shell:
            keep_up()
            return
        chosen = tuple(scene for scene in SCENES if not only or scene.name in only)
        _play(console, chosen, not no_pause)
        _show(console)
    except LabUnavailable as reason:
        print(f"lab: {reason}", file=sys.stderr)
        sys.exit(UNAVAILABLE)
    except AssertionError as failed:
        sys.exit(f"lab: this does not hold: {failed}")
    except KeyboardInterrupt:
        print()
        sys.exit(130)


if __name__ == "__main__":
    main()
