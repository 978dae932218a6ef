"""Hosts as network namespaces, links as veth pairs; nothing is left when their process ends.

A namespace has no name: it lives as long as the process that holds it, which the kernel kills with
this one. So a crash or Ctrl-C leaves nothing behind. Needs root, or a user namespace with it
(`unshare -Ur`), and iproute2, util-linux.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

__all__ = ["Host", "LabUnavailable", "Network", "network"]

_TOOLS = ("ip", "ss", "nsenter", "unshare", "setpriv")


class LabUnavailable(Exception):
    """This machine cannot make the lab. Says why, and what would help."""


class Host:
    """One network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(
            # Told to die with its parent before it leaves the namespace that the parent is in.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo; sleep 3600"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            _, error = self._holder.communicate()
            raise LabUnavailable(f"no network namespace can be made: {error.decode().strip()}")
        self.pid = self._holder.pid
        self.ip("link", "set", "lo", "up")
        # No filter by source: an address may be routed here over another link than its own.
        for name in ("all", "default"):
            self.run("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter")

    def command(self, *command: str) -> list[str]:
        """Return a command that runs inside."""
        return ["nsenter", "--target", str(self.pid), "--net", *command]

    def run(self, *command: str) -> str:
        """Run a command inside; return what it prints."""
        done = subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def ip(self, *words: str) -> str:
        """Run `ip` inside."""
        return self.run("ip", *words)

    def forward(self) -> None:
        """Be a router."""
        self.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def remote_hosts(self) -> set[str]:
        """Return the other ends of the TCP connections that are established here now: the
        kernel's word, not ours."""
        lines = self.run("ss", "--tcp", "--numeric", "--no-header", "state", "established")
        return {line.split()[-1].rpartition(":")[0].strip("[]") for line in lines.splitlines()}

    def close(self) -> None:
        """End the namespace, and every link to it."""
        self._holder.send_signal(signal.SIGKILL)
        self._holder.wait()
        for pipe in (self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()


class Network:
    """Hosts and the links between them."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def host(self, *names: str) -> None:
        """Make hosts."""
        for name in names:
            self._hosts[name] = Host(name)

    def link(self, one: str, address: str, other: str, other_address: str) -> None:
        """Join two hosts; the interface at each is named after the other. Addresses have a prefix
        length, and may be empty."""
        here, there = self[one], self[other]
        subprocess.run(
            ["ip", "link", "add", other, "netns", str(here.pid), "type", "veth"]
            + ["peer", "name", one, "netns", str(there.pid)],
            check=True,
            capture_output=True,
            timeout=30,
        )
        for host, name, own in ((here, other, address), (there, one, other_address)):
            if own:
                host.ip("address", "add", own, "dev", name)
            host.ip("link", "set", name, "up")

    def close(self) -> None:
        """End all of it."""
        for host in self._hosts.values():
            host.close()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make an empty network; it is gone afterwards.

    Raises:
        LabUnavailable: the tools or the rights are missing.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabUnavailable(f"not installed: {', '.join(missing)} (iproute2 and util-linux)")
    if os.geteuid() != 0:
        raise LabUnavailable("namespaces need root: run it in `unshare --user --map-root-user`")
    made = Network()
    try:
        yield made
    finally:
        made.close()
