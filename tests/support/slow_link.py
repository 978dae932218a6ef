"""Two session machines and a link between them that takes all at once and delivers it slowly."""

from dataclasses import dataclass, field

from protocol.session.events import Event, PathDead
from protocol.session.machine import SessionMachine
from protocol.session.settings import SessionSettings

__all__ = ["SlowLink"]

_STEP = 0.05


@dataclass
class _Direction:
    """One way: whoever is between the two takes whatever comes, without a bound."""

    rate: float
    delay: float
    waiting: bytearray = field(default_factory=bytearray)
    under_way: list[tuple[float, bytes]] = field(default_factory=list)
    credit: float = 0.0
    taken: int = 0
    """Bytes that were written into it."""
    longest: int = 0
    """The most that ever waited in it."""

    def put(self, data: bytes) -> None:
        self.waiting += data
        self.taken += len(data)
        self.longest = max(self.longest, len(self.waiting))

    def step(self, now: float) -> bytes:
        """Return what arrives in this step."""
        self.credit = self.credit + self.rate * _STEP if self.waiting else 0.0
        count = min(int(self.credit), len(self.waiting))
        self.credit -= count
        if count:
            self.under_way.append((now + self.delay, bytes(self.waiting[:count])))
            del self.waiting[:count]
        arrived = b"".join(data for when, data in self.under_way if when <= now)
        self.under_way = [one for one in self.under_way if one[0] > now]
        return arrived


class SlowLink:
    """Side `a` at one end, side `b` at the other. `revised` says whether both know the second
    revision of the frames."""

    def __init__(
        self, there: float, back: float = 1e9, *, delay: float = 0.02, revised: bool = True
    ) -> None:
        self.now = 0.0
        self.a = SessionMachine(SessionSettings(), 0.0)
        self.b = SessionMachine(SessionSettings(), 0.0)
        self._rates = (there, back)
        self._delay = delay
        self._revised = revised
        self.paths = 0
        self.dead: list[tuple[float, str]] = []
        """When a path was given up, and why."""
        self.attach()

    def attach(self) -> None:
        """Give both a new path."""
        self.paths += 1
        self.there, self.back = (_Direction(rate, self._delay) for rate in self._rates)
        a, b = self.a, self.b
        for here, other in ((a, b), (b, a)):
            here.attach(
                other.received,
                other.consumed,
                other.settings.window,
                self.now,
                partial=other.partial,
                revised=self._revised,
            )

    def step(self) -> list[Event]:
        """Let a moment pass; a path that either side gives up is replaced."""
        self.now += _STEP
        for machine, direction in ((self.b, self.there), (self.a, self.back)):
            if data := direction.step(self.now):
                machine.receive(data, self.now)
        for machine, direction in ((self.a, self.there), (self.b, self.back)):
            machine.handle_timeout(self.now)
            while data := machine.data_to_send(self.now):
                direction.put(data)
        events = [*self.a.events(), *self.b.events()]
        for event in events:
            if isinstance(event, PathDead):
                self.dead.append((self.now, event.reason))
                self.attach()
        return events

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            self.step()
