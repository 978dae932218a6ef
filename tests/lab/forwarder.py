"""Links with delay, jitter, loss and rate between network namespaces; the kernel may lack netem.

Each link is a pair of TUN devices, one in each namespace; this process reads packets from one and
writes them to the other when they are due. One process and one thread play all links of a network.
It is told what to do by lines of JSON on its standard input (tests/lab/links.py), and ends with it.

The clock is that of `select`, whose timeouts are microseconds where those of epoll are
milliseconds; with some dozens of devices it costs nothing more.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import random
import select
import struct
import time
from collections import Counter, deque
from typing import Any

from tests.lab.links import Link

__all__ = ["Direction", "dialed_by", "main", "said_on"]

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LARGEST = 65_535
_TCP = 6
_SYN, _ACK = 0x02, 0x10
_BURST = 64
"""Packets that are read from one device before the others have their turn."""
_MOST_UNDER_WAY = 20_000
"""Packets in one direction at once; beyond it the newest is dropped, as by a full queue."""


class Direction:
    """One direction of a link: what becomes of each packet, and when. It has no clock and no I/O:
    times are seconds of any clock that does not jump."""

    def __init__(self, link: Link, salt: int = 0) -> None:
        self._random = random.Random(link.seed * 2 + salt)
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._free_at = 0.0
        self._last_due = 0.0
        self.passed = self.lost = self.full = self.down = self.syns = self.data = 0
        self.change(link)

    def change(self, link: Link) -> None:
        """Treat packets so from now on."""
        self._delay = link.delay_ms / 1e3
        self._jitter = link.jitter_ms / 1e3
        self._loss = link.loss
        self._rate = link.rate_bits
        self._queue = link.queue_bytes
        self._lose_syns = link.lose_syns
        self._dialed: Counter[bytes] = Counter()
        self._lose_data = link.lose_data
        self._said: Counter[bytes] = Counter()

    def accept(self, packet: bytes, now: float) -> None:
        """Take a packet in."""
        if self._lose_syns and (where := dialed_by(packet)):
            self._dialed[where] += 1
            if self._dialed[where] <= self._lose_syns:
                self.syns += 1
                return
        if self._lose_data and (connection := said_on(packet)):
            self._said[connection] += 1
            if self._said[connection] <= self._lose_data:
                self.data += 1
                return
        if self._loss and self._random.random() < self._loss:
            self.lost += 1
            return
        sent = now
        if self._rate:
            waiting = max(0.0, self._free_at - now) * self._rate / 8
            if waiting + len(packet) > self._queue:
                self.full += 1
                return
            sent = self._free_at = max(now, self._free_at) + len(packet) * 8 / self._rate
        if len(self._under_way) >= _MOST_UNDER_WAY:
            self.full += 1
            return
        due = sent + self._delay
        if self._jitter:
            due += self._random.random() * self._jitter
        self._last_due = due = max(due, self._last_due)
        self._under_way.append((due, packet))

    @property
    def next_due(self) -> float | None:
        """When the next packet arrives; None while none is under way."""
        return self._under_way[0][0] if self._under_way else None

    def arrived(self, now: float) -> list[bytes]:
        """Return the packets that arrive until now, in order."""
        packets = []
        while self._under_way and self._under_way[0][0] <= now:
            packets.append(self._under_way.popleft()[1])
        return packets


def dialed_by(packet: bytes) -> bytes:
    """Return the address and port that a packet dials; nothing where it is no SYN of TCP."""
    hosts, tcp = _taken_apart(packet)
    is_first = len(tcp) > 13 and tcp[13] & (_SYN | _ACK) == _SYN
    return hosts[len(hosts) // 2 :] + tcp[2:4] if is_first else b""


def said_on(packet: bytes) -> bytes:
    """Return the connection on which a packet of TCP carries data; nothing where it has none."""
    hosts, tcp = _taken_apart(packet)
    has_data = len(tcp) > 13 and len(tcp) > (tcp[12] >> 4) * 4
    return hosts + tcp[:4] if has_data else b""


def _taken_apart(packet: bytes) -> tuple[bytes, bytes]:
    """Return both addresses of a packet, and its TCP, which is empty where it has none."""
    if packet[0] >> 4 == 4:
        protocol, hosts, tcp = packet[9], packet[12:20], packet[(packet[0] & 15) * 4 :]
    else:
        protocol, hosts, tcp = packet[6], packet[8:40], packet[40:]
    return hosts, tcp if protocol == _TCP else b""


class _Played:
    """A link that is played: two devices and the directions between them."""

    def __init__(self, fds: tuple[int, int], link: Link) -> None:
        self.ways = (
            (fds[0], fds[1], Direction(link, 0)),
            (fds[1], fds[0], Direction(link, 1)),
        )

    def deliver(self, now: float) -> None:
        for _, out, direction in self.ways:
            for packet in direction.arrived(now):
                try:
                    os.write(out, packet)
                    direction.passed += 1
                except OSError:  # The device is down, or its host has gone.
                    direction.down += 1

    def counts(self) -> dict[str, int]:
        return {
            name: sum(getattr(direction, name) for _, _, direction in self.ways)
            for name in ("passed", "lost", "full", "down", "syns", "data")
        }


class _Loop:
    def __init__(self) -> None:
        self._links: dict[int, _Played] = {}
        self._directions: dict[int, Direction] = {}
        self._orders = b""

    def run(self) -> None:
        os.set_blocking(0, False)
        while True:
            dues = [due for way in self._directions.values() if (due := way.next_due) is not None]
            wait = max(0.0, min(dues) - time.monotonic()) if dues else None
            readable, _, _ = select.select([0, *self._directions], [], [], wait)
            for fd in readable:
                if fd:
                    self._read(fd)
                elif not self._obey():
                    return
            now = time.monotonic()
            for link in self._links.values():
                link.deliver(now)

    def _read(self, fd: int) -> None:
        direction = self._directions[fd]
        try:
            for _ in range(_BURST):
                packet = os.read(fd, _LARGEST)
                direction.accept(packet, time.monotonic())
        except BlockingIOError:
            pass
        except OSError:  # The host of this end has gone, and the device with it.
            del self._directions[fd]

    def _obey(self) -> bool:
        data = os.read(0, 65_536)
        *lines, self._orders = (self._orders + data).split(b"\n")
        for line in lines:
            try:
                answer = self._do(json.loads(line))
            except OSError as error:
                answer = {"error": f"{error.strerror}: {error.filename or 'TUN device'}"}
            os.write(1, json.dumps(answer).encode() + b"\n")
        return bool(data)

    def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        if "counts" in order:
            return self._links[order["counts"]].counts()
        link = Link(**order["link"])
        if "change" in order:
            for _, _, direction in self._links[order["change"]].ways:
                direction.change(link)
            return {}
        one, other = (_open_tun(int(pid), name) for pid, name in order["ends"])
        played = self._links[order["add"]] = _Played((one, other), link)
        self._directions |= {source: direction for source, _, direction in played.ways}
        return {}


def _open_tun(pid: int, name: str) -> int:
    """Make a TUN device in the namespace of a process; it lives as long as the descriptor."""
    fd = -1
    with open("/proc/self/ns/net") as home, open(f"/proc/{pid}/ns/net") as there:
        try:
            _enter(there.fileno())
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
            fcntl.ioctl(fd, _TUNSETIFF, request)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        finally:
            _enter(home.fileno())
    return fd


_libc = ctypes.CDLL(None, use_errno=True)  # `os.setns` came with Python 3.12.


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "setns")


def main() -> None:
    """Play links until standard input ends."""
    with contextlib.suppress(KeyboardInterrupt):
        _Loop().run()


if __name__ == "__main__":
    main()
