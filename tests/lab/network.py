"""Hosts as network namespaces, and links between them; nothing is left when their process ends.

A namespace has no name: it lives as long as the process that holds it, and that one ends with its
standard input, which the kernel closes however this process ends. Links are veth pairs, or, where
they have a delay, TUN devices joined by the forwarder (tests/lab/links.py).

Needs iproute2 and util-linux, and root. Without root everything is inside a user namespace, where
the kernel allows that.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from tests.lab.links import Forwarder, ForwarderFailed, Link

__all__ = ["Host", "LabUnavailable", "Network", "network"]

_TOOLS = ("ip", "ss", "nsenter", "unshare", "setpriv")
_TIMEOUT = 30.0
_FIRST_INDEX = 1000
_NEIGHBORS = ("arp_cache", "ndisc_cache")
_ASKING = "retrans 50 mcast_probes 60"
"""Milliseconds, and how often. A link takes a moment to be up, and a busy machine makes it longer:
who asks for a neighbor before that is not heard, and would ask again after a second. For how long
it is asked for stays the same."""

_SET_UP = """
ip link set lo up
for name in all default; do
    # No filter by source: an address may be routed here over another link than its own.
    echo 0 > /proc/sys/net/ipv4/conf/$name/rp_filter
    # No router advertisements, and an address can be used at once: nobody else has it here.
    echo 0 > /proc/sys/net/ipv6/conf/$name/accept_ra
    echo 0 > /proc/sys/net/ipv6/conf/$name/accept_dad
done 2>/dev/null
"""
_HOLD = "echo; exec cat >/dev/null"


class LabUnavailable(Exception):
    """This machine cannot make the lab. Says why, and what would help."""


class _Holder:
    """A process that holds namespaces until it is closed, or this process ends."""

    def __init__(self, prefix: Sequence[str], script: str) -> None:
        self._process = subprocess.Popen(
            [*prefix, "sh", "-c", script + _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            _, error = self._process.communicate(timeout=_TIMEOUT)
            raise LabUnavailable(
                f"no namespace can be made: {error.decode().strip()} (root, or"
                " kernel.unprivileged_userns_clone and user.max_user_namespaces, would help)"
            )

    def close(self) -> None:
        self._process.kill()
        self._process.wait(_TIMEOUT)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


class Host:
    """One network namespace. `enter_user` is what enters the user namespace that it belongs to."""

    def __init__(self, name: str, enter_user: Sequence[str]) -> None:
        self.name = name
        self._holder = _Holder([*enter_user, "unshare", "--net"], _SET_UP)
        self.pid = self._holder.pid
        self._enter = ["nsenter", "--target", str(self.pid), "--net"]
        if enter_user:
            self._enter += ["--user", "--preserve-credentials"]

    def command(self, *command: str) -> list[str]:
        """Return a command that runs inside."""
        return [*self._enter, *command]

    def lasting(self, *command: str) -> list[str]:
        """Return a command that runs inside, and is killed when the thread that started it ends."""
        # Only now, as the kernel forgets this wish when a process enters a user namespace.
        return self.command("setpriv", "--pdeathsig", "KILL", *command)

    def run(self, *command: str, given: str = "") -> str:
        """Run a command inside; return what it prints."""
        done = subprocess.run(
            self.command(*command),
            input=given,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}\n{given}")
        return done.stdout

    def ip(self, *lines: str, version: int | None = None) -> None:
        """Do what lines for `ip` say, one after the other, in one process: a move between two
        networks takes as long as the kernel needs, and not as long as starting programs. `version`
        is for rules, where `ip` does not see it in the addresses."""
        family = [f"-{version}"] if version else []
        self.run("ip", *family, "-batch", "-", given="\n".join(lines) + "\n")

    def ask_ip(self, *words: str) -> str:
        """Return what `ip` prints."""
        return self.run("ip", *words)

    def forward(self, on: bool = True) -> None:
        """Be a router, or be one no more."""
        self.run(
            "sh",
            "-c",
            f"echo {int(on)} > /proc/sys/net/ipv4/ip_forward;"
            f"echo {int(on)} > /proc/sys/net/ipv6/conf/all/forwarding",
        )

    def remote_hosts(self) -> set[str]:
        """Return the other ends of the TCP connections that are established here now: the
        kernel's word, not ours."""
        lines = self.run("ss", "--tcp", "--numeric", "--no-header", "state", "established")
        hosts = (line.split()[-1].rpartition(":")[0].strip("[]") for line in lines.splitlines())
        # IPv4 over a socket of both families is written ::ffff:192.0.2.1.
        return {host.removeprefix("::ffff:") for host in hosts}

    def packets(self, interface: str) -> int:
        """Return how many packets an interface has received and sent: the kernel's counters."""
        for line in self.run("cat", "/proc/net/dev").splitlines():
            name, _, counts = line.partition(":")
            if name.strip() == interface:
                fields = counts.split()
                return int(fields[1]) + int(fields[9])
        raise RuntimeError(f"{self.name} has no interface {interface}")

    def close(self) -> None:
        """End the namespace, and every link to it."""
        self._holder.close()


class Network:
    """Hosts and the links between them."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._links: dict[frozenset[str], int] = {}
        self._made = 0
        self._forwarder: Forwarder | None = None
        self._user: _Holder | None = None
        self._enter_user: list[str] = []
        if os.geteuid() != 0:
            self._user = _Holder(["unshare", "--user", "--map-root-user"], "")
            self._enter_user = ["nsenter", "--target", str(self._user.pid)]
            self._enter_user += ["--user", "--preserve-credentials"]

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, in the order in which they were made."""
        return tuple(self._hosts.values())

    def host(self, *names: str) -> None:
        """Make hosts."""
        for name in names:
            self._hosts[name] = Host(name, self._enter_user)

    def link(
        self,
        one: str,
        addresses: Sequence[str],
        other: str,
        other_addresses: Sequence[str],
        link: Link | None = None,
    ) -> None:
        """Join two hosts; the interface at each is named after the other. Addresses have a prefix
        length. Without a `link` it is a veth pair, and takes no time at all.

        Raises:
            LabUnavailable: it is to have a delay, and the kernel gives no TUN device.
        """
        here, there = self[one], self[other]
        if link is None:
            # The kernel tells of a carrier at once where the ends have different numbers, and up to
            # a second later where they happen to have the same one.
            self._made += 1
            number = _FIRST_INDEX + self._made
            here.ip(f"link add {other} index {number} type veth peer name {one} netns {there.pid}")
        else:
            try:
                self._forwarder = self._forwarder or Forwarder(self._enter_user)
                number = self._forwarder.join((here.pid, other), (there.pid, one), link)
            except ForwarderFailed as error:
                raise LabUnavailable(f"no link with a delay can be made: {error}") from None
            self._links[frozenset((one, other))] = number
        for host, name, own in ((here, other, addresses), (there, one, other_addresses)):
            host.ip(
                *(f"ntable change name {table} dev {name} {_ASKING}" for table in _NEIGHBORS),
                f"link set {name} up",
                *(f"address add {address} dev {name}" for address in own),
            )

    def change(self, one: str, other: str, link: Link) -> None:
        """Let a delayed link be another one from now on."""
        assert self._forwarder is not None
        self._forwarder.change(self._links[frozenset((one, other))], link)

    def counts(self, one: str, other: str) -> dict[str, int]:
        """Return what became of the packets on a delayed link (`Forwarder.counts`)."""
        assert self._forwarder is not None
        return self._forwarder.counts(self._links[frozenset((one, other))])

    def close(self) -> None:
        """End all of it."""
        for host in self._hosts.values():
            host.close()
        if self._forwarder is not None:
            self._forwarder.close()
        if self._user is not None:
            self._user.close()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make an empty network; it is gone afterwards.

    Raises:
        LabUnavailable: the tools or the rights are missing.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabUnavailable(f"not installed: {', '.join(missing)} (iproute2 and util-linux)")
    made = Network()
    try:
        yield made
    finally:
        made.close()
