"""The lab kept up to be played with by hand: how to enter its hosts, and a prompt that moves."""

import os
import shlex
import signal
import sys
from collections.abc import Callable

from tests.lab.draft import access
from tests.lab.drawing import drawing, in_use
from tests.lab.links import Link
from tests.lab.network import LabUnavailable
from tests.lab.stage import Stage, stage

__all__ = ["UP", "keep_up"]

UP = "the lab is up; Ctrl-C ends it"
_HELP = """\
move mr1 | move mr2    MN1 leaves where it is and comes there
also mr2               MN1 comes there too
leave                  MN1 leaves all networks
anchor | end-anchor    MN1 moves from MR1 to MR2 and keeps IP1; IP1 goes
silence mr1            a router drops everything and tells nobody
move-caller            CN3 moves to MR3
link 25 5 0.01         MN1's links: ms one way, ms of jitter, share of loss
show                   the drawing, and what is connected
quit"""


def keep_up() -> None:
    """Build the network with a relay and a peer on MN1 that echoes. It ends with Ctrl-C, or by
    `quit` or the end of input at the prompt, which only a terminal has.

    Raises:
        LabUnavailable: this machine cannot.
    """
    try:
        _play(delayed=True)
    except LabUnavailable as reason:
        print(f"without delays: {reason}")
        _play(delayed=False)


def _play(delayed: bool) -> None:
    with stage(links=access(10) if delayed else None) as on_stage:
        _introduce(on_stage)
        if not sys.stdin.isatty():
            print(UP, flush=True)
            signal.pause()
        print(UP, "(help shows what can be done here)")
        while (line := _ask()) not in (None, "quit"):
            try:
                print("\n".join(_obey(on_stage, shlex.split(line or ""))))
            except (ValueError, KeyError, TypeError, AssertionError, RuntimeError) as error:
                print(f"not done: {error}")


def _ask() -> str | None:
    try:
        return input("lab> ").strip()
    except EOFError:
        return None


def _introduce(on_stage: Stage) -> None:
    net = on_stage.net
    print("\n".join(drawing(on_stage.lab)))
    print("\nEnter a host (each is a network namespace that this process holds):")
    for host in net.hosts:
        print(f"  {host.name:7} {shlex.join(host.command(os.environ.get('SHELL', 'sh')))}")
    print("\nCall MN1 from CN3; each line that you type comes back:")
    print(f"  {on_stage.command('cn3', 'connect', on_stage.guid, 'chat', '--mode', 'auto')}")
    print("Ask where it is, and what is nearest:")
    print(f"  {on_stage.command('cn3', 'locate', on_stage.guid, 'chat')}")
    print("See what the kernel has connections to:")
    print(f"  {shlex.join(net['cn3'].command('ss', '-tn'))}")
    print()


def _obey(on_stage: Stage, words: list[str]) -> list[str]:
    lab = on_stage.lab

    def move(there: str) -> None:
        if there not in ("mr1", "mr2"):
            raise ValueError(f"{there} is no router of MN1: mr1 or mr2")
        if lab.anchored:
            lab.end_anchor()
        for router in lab.at:
            if router != there:
                lab.detach(router)
        lab.attach(there)

    def leave() -> None:
        for router in lab.at:
            lab.detach(router)

    def link(delay: str, jitter: str = "0", loss: str = "0") -> None:
        for router in ("mr1", "mr2"):
            lab.net.change(router, "mn1", Link(float(delay), float(jitter), float(loss)))

    orders: dict[str, Callable[..., None]] = {
        "move": move,
        "also": lab.also,
        "leave": leave,
        "anchor": lab.anchor,
        "end-anchor": lab.end_anchor,
        "silence": lab.silence,
        "move-caller": lab.move_caller,
        "link": link,
        "show": lambda: None,
    }
    if not words or words[0] not in orders:
        return [_HELP]
    orders[words[0]](*words[1:])
    return [*drawing(lab), *in_use(lab)]
