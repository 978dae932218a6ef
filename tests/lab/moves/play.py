"""Plays one cell: the network, the programs, the moves. What comes of it is counted elsewhere.

MN1 is the one that moves, and CN3 the other one, whoever of them calls: so the round trip is the
same in all cells. Both links of MN1 take half of it each way, and lose what is to be lost once the
conversation is under way.
"""

import contextlib
import dataclasses
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.draft import IP1, SERVER, Draft, access, draft
from tests.lab.moves.cells import INTERVAL, Cell, Mover, Row
from tests.lab.moves.counting import Arrival, Tally, Window, tally, worse
from tests.lab.moves.rivals.catalog import rival
from tests.lab.network import Host
from tests.lab.programs import DEADLINE, PORT, Program
from tests.lab.stage import keys_folder

__all__ = ["Measured", "NotPlayed", "play"]

_CN3 = "10.4.0.2"
SETTLED = 1.0
"""Seconds between one move and the next after messages flow again; they are measured too."""
_BOTH = 1.0
"""Seconds that a soft move has both networks."""
_AWAY = 5.0
_PATIENCE = 20.0
"""Seconds for messages to flow again; a conversation where they do not is at its end."""
_LAST = 3.0
"""Seconds for both ends of a conversation that has ended to say how much they have sent."""
_AHEAD = 20
"""So many messages behind those that may be under way show that a direction flows again."""
_NETWORKS = {"mr1": (1, IP1), "mr2": (2, "10.2.0.10")}


class NotPlayed(Exception):
    """The conversation did not begin. Says why."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came of one cell. Times are seconds."""

    cell: Cell
    silences: tuple[float, ...]
    """One for each move, of the worse direction; infinite where the conversation has ended,
    and none where it did not begin."""
    counts: Tally
    """Both directions together; of a conversation that has ended too."""
    starts: tuple[float, ...] = ()
    """How long the relay (or server) took from its start until it served, for each restart."""
    load: float = 0.0
    """Of the machine, in the minute before."""


class _End:
    """One end: its program, and what it says of the messages that came."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.arrivals: list[Arrival] = []
        self.sent: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def go(self) -> None:
        self._thread.start()
        self.program.write("go")

    def _read(self) -> None:
        while not self._stop.is_set():
            for _, line in self.program.taken(0.1):
                kind, _, rest = line.partition(" ")
                if kind == "+":
                    when, number = rest.split()
                    self.arrivals.append((float(when), int(number)))
                elif kind == "sent":
                    self.sent = int(rest)

    @property
    def highest(self) -> int:
        """The highest number that has come lately."""
        return max((number for _, number in self.arrivals[-50:]), default=-1)

    def tell(self, order: str) -> None:
        with contextlib.suppress(OSError):  # It has ended; what it does not say tells so.
            self.program.write(order)

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(DEADLINE)


class _Server:
    """The relay, or the server of a rival, which can be killed and started again."""

    def __init__(self, host: Host, folder: Path, cell: Cell) -> None:
        self._host, self._folder, self._cell = host, folder, cell
        self._program = self._started()

    def _started(self) -> Program:
        if self._cell.is_rival:
            program = Program(self._host, "tests.lab.moves.rivals.nats_server", SERVER)
            try:
                program.until("Server is ready", program.errors)
            except BaseException:
                program.close()
                raise
            return program
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        where = (
            "--host",
            SERVER,
            "--port",
            str(PORT),
            "--state",
            os.fspath(self._folder / "state"),
        )
        program = Program(self._host, "relay", "serve", *where, "--ready-file", os.fspath(ready))
        end = time.monotonic() + DEADLINE
        while not ready.exists():
            if program.process.poll() is not None or time.monotonic() > end:
                program.close()
                raise NotPlayed(f"no relay: {program.said()}")
            time.sleep(0.005)
        return program

    def restart(self) -> tuple[float, float]:
        """Kill it and start it; return when it served, and how long that took from its start."""
        self._program.close()
        began = time.monotonic()
        self._program = self._started()
        now = time.monotonic()
        return now, now - began

    def close(self) -> None:
        self._program.close()


@contextlib.contextmanager
def _ends(lab: Draft, cell: Cell) -> Iterator[tuple[_End, _End]]:
    """Run both programs; yield the end that moves, and the other one, once each has the other."""
    mobile, fixed = lab.net["mn1"], lab.net["cn3"]
    callee, caller = (mobile, fixed) if cell.mover is Mover.CALLEE else (fixed, mobile)
    if cell.is_rival:
        module = rival(cell.subject).module
        where = (IP1 if callee is mobile else _CN3, SERVER)
        further: tuple[str, ...] = ()
    else:
        module, where, further = "tests.lab.moves.ours", (f"http://{SERVER}:{PORT}",), (cell.mode,)
    with contextlib.ExitStack() as stack:
        called = Program(callee, module, "listen", *where)
        stack.callback(called.close)
        told = _until("ready", called).split()[1:]
        calling = Program(caller, module, "connect", *where, *told, *further)
        stack.callback(calling.close)
        _until("up", calling)
        _until("up", called)
        ends = {program.host: _End(program) for program in (called, calling)}
        for end in ends.values():
            stack.callback(end.close)
        yield ends[mobile], ends[fixed]


def _until(word: str, program: Program) -> str:
    try:
        return program.until(word, program.out)
    except AssertionError as error:
        raise NotPlayed(f"{error} {program.said()}") from None


class _Player:
    def __init__(
        self,
        lab: Draft,
        cell: Cell,
        ends: tuple[_End, _End],
        server: _Server | None,
        settled: float,
    ):
        self._lab, self._cell, self._server = lab, cell, server
        self._settled = settled
        self._mobile, self._fixed = self._ends = ends
        self._here, self._there = "mr1", "mr2"
        self._begun: list[tuple[float, float]] = []
        """Of each move: when it began to disturb, and from when on its silence counts."""
        self.starts: list[float] = []
        self.has_ended = False

    def play(self, moves: int) -> None:
        """Make the moves, for as long as messages flow after them."""
        for end in self._ends:
            end.go()
        self._await_flow()
        self._lose()
        for _ in range(moves):
            if self.has_ended:
                break
            {
                Row.HARD: self._hard,
                Row.SOFT: self._soft,
                Row.ABSENCE: self._absence,
                Row.RESTART: self._restart,
            }[self._cell.row]()
            self._await_flow()

    def silences(self) -> tuple[float, ...]:
        """Return the silence of each move; each ends where the next one begins."""
        directions = [[when for when, _ in end.arrivals] for end in self._ends]
        ends = [*(began for began, _ in self._begun[1:]), time.monotonic()]
        told = [
            worse(directions, Window(since, until), INTERVAL)
            for (_, since), until in zip(self._begun, ends, strict=True)
        ]
        if self.has_ended and told:
            told[-1] = math.inf
        return tuple(told)

    def counts(self) -> Tally:
        """End sending, wait for what is under way, and count."""
        for end in self._ends:
            end.tell("stop")
        deadline = time.monotonic() + (_LAST if self.has_ended else _PATIENCE)
        while time.monotonic() < deadline and not self._is_complete():
            time.sleep(0.02)
        total = Tally(0, 0, 0, 0)
        for end, other in (self._ends, self._ends[::-1]):
            # One that does not say how many it has sent has crashed: what came is all we know.
            sent = end.sent if end.sent is not None else other.highest + 1
            total += tally(sent, [number for _, number in other.arrivals])
        return total

    def _is_complete(self) -> bool:
        return all(
            end.sent is not None and len(other.arrivals) >= end.sent
            for end, other in (self._ends, self._ends[::-1])
        )

    def _lose(self) -> None:
        link = access(self._cell.round_trip_ms / 2)["mr1", "mn1"]
        for router in ("mr1", "mr2"):
            self._lab.net.change(
                router, "mn1", dataclasses.replace(link, loss=self._cell.loss / 100)
            )

    def _await_flow(self) -> None:
        """Wait until what was sent after this has come, both ways, and then a little longer."""
        under_way = math.ceil(self._cell.round_trip_ms / 1e3 / INTERVAL)
        wanted = [end.highest + under_way + _AHEAD for end in self._ends]
        deadline = time.monotonic() + _PATIENCE
        while any(end.highest < number for end, number in zip(self._ends, wanted, strict=True)):
            if time.monotonic() > deadline:
                self.has_ended = True
                return
            time.sleep(0.02)
        time.sleep(self._settled)

    # -- what happens ----------------------------------------------------------------------------

    def _note(self, began: float, since: float | None = None) -> None:
        self._begun.append((began, began if since is None else since))

    def _hard(self) -> None:
        self._note(time.monotonic())
        self._lab.move(self._here, self._there)
        self._networks_changed(gone=self._here, come=self._there)
        self._turn()

    def _soft(self) -> None:
        self._note(time.monotonic())
        self._lab.attach(self._there)
        self._networks_changed(come=self._there)
        time.sleep(_BOTH)
        self._lab.detach(self._here)
        self._networks_changed(gone=self._here)
        self._turn()

    def _absence(self) -> None:
        began = time.monotonic()
        self._lab.detach(self._here)
        self._networks_changed(gone=self._here)
        time.sleep(_AWAY)
        self._note(began, time.monotonic())
        self._lab.attach(self._there)
        self._networks_changed(come=self._there)
        self._turn()

    def _restart(self) -> None:
        assert self._server is not None
        began = time.monotonic()
        served, took = self._server.restart()
        self._note(began, served)
        self.starts.append(took)

    def _turn(self) -> None:
        self._here, self._there = self._there, self._here

    def _networks_changed(self, gone: str | None = None, come: str | None = None) -> None:
        """Help a rival that has to be told."""
        if self._cell.subject == "mptcp":
            if gone is not None:
                _mptcp(self._mobile.program.host, f"endpoint delete id {_NETWORKS[gone][0]}")
            if come is not None:
                _mptcp_endpoint(self._cell, self._mobile.program.host, come)
        if self._cell.is_rival:
            self._mobile.tell("changed")


def _mptcp(host: Host, line: str) -> None:
    host.run("ip", "mptcp", *line.split())


def _mptcp_endpoint(cell: Cell, host: Host, router: str) -> None:
    number, address = _NETWORKS[router]
    flag = "subflow" if cell.mover is Mover.CALLER else "signal"
    _mptcp(host, f"endpoint add {address} dev {router} id {number} {flag}")


def play(cell: Cell, moves: int, settled: float = SETTLED) -> Measured:
    """Play a cell with so many moves, which are `settled` seconds apart after messages flow again.
    Nothing is left afterwards, whatever ends it.

    Raises:
        LabUnavailable: this machine cannot.
        NotPlayed: the conversation did not begin.
    """
    load = os.getloadavg()[0]
    needs_server = not cell.is_rival or rival(cell.subject).is_served
    with (
        draft(access(cell.round_trip_ms / 2)) as lab,
        keys_folder() as folder,
        contextlib.ExitStack() as stack,
    ):
        if cell.subject == "mptcp":
            for name in ("mn1", "cn3"):
                _mptcp(lab.net[name], "limits set subflows 4 add_addr_accepted 4")
            _mptcp_endpoint(cell, lab.net["mn1"], "mr1")
        server = None
        if needs_server:
            server = _Server(lab.net["server"], folder, cell)
            stack.callback(server.close)
        ends = stack.enter_context(_ends(lab, cell))
        player = _Player(lab, cell, ends, server, settled)
        player.play(moves)
        silences = player.silences()
        return Measured(cell, silences, player.counts(), tuple(player.starts), load)
