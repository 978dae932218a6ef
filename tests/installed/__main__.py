"""`make installed`: builds the wheel, installs it into a fresh environment without extras, and uses
it from an empty folder: both commands, README's program, and mypy and pyright on a program of a
user's. Then each extra: what is said without it, and that it works with it.

A command and no test of pytest's, as it fetches what the wheel depends on. The exit code is 0 only
if all of it worked; what did not is shown with what it printed.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
"""Seconds for one step; ten times that for pip."""

TYPED = (Path(__file__).parent / "typed.py").read_text()
"""A user's program: its types are those of the package, none of them `Any`."""
PYRIGHT = "pyright@1.1.414"
"""What checks it besides mypy; by npm, into the folder that goes at the end."""


def environment() -> dict[str, str]:
    """Return the environment of a user who has set nothing for us."""
    ours = ("PEER_", "ROAM_RELAY_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class Installation:
    """A fresh environment with our wheel in it, used from a folder with nothing in it."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "environment" / "bin"
        self.home = folder / "home"
        self.home.mkdir()
        wheels = folder / "wheels"
        pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
        # From a copy: setuptools leaves a folder `build` where it works, and takes from it, the
        # next time, files that have gone.
        source = folder / "source"
        tracked = self.run("git", "-C", str(ROOT), "ls-files", "-z").split("\0")
        for name in filter(None, tracked):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
        self.run(sys.executable, *pip, "wheel", "--no-deps", "-w", str(wheels), str(source))
        self.run(sys.executable, "-m", "venv", str(self._bin.parent))
        (wheel,) = wheels.iterdir()
        self._wheel, self._pip = str(wheel), (self.program("python"), *pip)
        self._bare = self.holds()
        self.add()

    def add(self, extra: str = "") -> None:
        """Install the wheel, or an extra beside it."""
        self.run(*self._pip, "install", f"{self._wheel}[{extra}]" if extra else self._wheel)

    def holds(self) -> tuple[int, float, set[str]]:
        """Return how many packages there are, their mebibytes, and the commands, without pip's."""
        site = next(self._bin.parent.glob("lib/python3*/site-packages"))
        size = sum(
            file.lstat().st_size
            for file in site.rglob("*")
            if file.suffix != ".pyc" and file.is_file()
        )
        packages = list(site.glob("*.dist-info"))
        return len(packages), size / (1 << 20), {one.name for one in self._bin.iterdir()}

    def brought(self) -> str:
        """Return what all that was installed is, in one line."""
        packages, size, commands = self.holds()
        bare = self._bare
        others = sorted(commands - bare[2] - {"peer", "relay"})
        return (
            f"{packages - bare[0]} packages, {size - bare[1]:.0f} MiB, "
            f"commands of others: {' '.join(others) or 'none'}"
        )

    def program(self, name: str) -> str:
        """Return the path of a program of the environment."""
        return str(self._bin / name)

    def run(self, *command: str, given: str | None = None) -> str:
        """Run a command to its end, with a text to read or none, and return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.home,
            env=environment(),
            input=given or "",
            capture_output=True,
            text=True,
            timeout=10 * DEADLINE,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """Run a command until the block ends, and have it end as it should."""
        with (self.home / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.home,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
            try:
                yield
            finally:
                process.terminate()
                try:
                    process.wait(DEADLINE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise

    def wait_for(self, file: str) -> str:
        """Return what a file says once it is there."""
        end = time.monotonic() + DEADLINE
        while not (self.home / file).exists():
            if time.monotonic() > end:
                raise SystemExit(f"no {file}: " + (self.home / "log").read_text(errors="replace"))
            time.sleep(0.02)
        return (self.home / file).read_text().strip()


def commands(installation: Installation, url: str) -> None:
    """Talk between the two commands, as README shows."""
    peer = (installation.program("peer"), "--relay", url)
    guid = installation.run(*peer, "--key", "alice.key", "id").strip()
    with installation.running(*peer, "--key", "alice.key", "listen", "chat", "--echo"):
        told = installation.run(
            *peer, "--key", "bob.key", "connect", "--wait", guid, "chat", given="one\ntwo\n"
        )
    if "one" not in told or "two" not in told:
        raise SystemExit(f"`peer connect` printed no answers: {told!r}")


def readme(installation: Installation, url: str) -> None:
    """Run README's program: its first half in the background, its second half to its end."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    imports, echo, first, second = block.replace("http://127.0.0.1:8440", url).split("\n\n")
    program = "\n".join(
        [
            "import asyncio, sys",
            imports,
            echo,
            "async def listening():",
            *("    " + line for line in first.splitlines()),
            "async def main():",
            "    background = asyncio.create_task(listening())",
            "    alice_guid = Identity.load_or_create('alice.key').guid",
            "    bob_identity = Identity.generate()",
            "    async with Peer(Identity.generate(), relay=sys.argv[1]) as early:",
            "        await (await early.connect(alice_guid, 'chat', wait=True)).close()",
            *("    " + line for line in second.splitlines()),
            "    assert reply == b'hello', reply",
            "    background.cancel()",
            "asyncio.run(main())",
        ]
    )
    (installation.home / "program.py").write_text(program)
    installation.run(installation.program("python"), "program.py", url)


def types(installation: Installation) -> None:
    """Have mypy and pyright, which are none of ours to install there, follow the installed package,
    and that of this checkout as `make` has installed it."""
    (installation.home / "typed.py").write_text(TYPED)
    (installation.home / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is needed, for pyright: Debian's packages nodejs and npm")
    tools = installation.home.parent / "tools"
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    installation.run(npm, "install", *quiet, "--prefix", str(tools), PYRIGHT)
    pyright = str(tools / "node_modules" / ".bin" / "pyright")
    for python in (installation.program("python"), sys.executable):
        mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python)
        told = installation.run(*mypy, "typed.py")
        if 'Revealed type is "bytes"' not in told:
            raise SystemExit(f"mypy does not see the types of the package:\n{told}")
        told = installation.run(pyright, "--warnings", "--pythonpath", python, "typed.py")
        if 'Type of "reply" is "bytes"' not in told:
            raise SystemExit(f"pyright does not see the types of the package:\n{told}")


IMPORTS = {
    "dns": "from peers import Peer, Identity; Peer(Identity.generate(), 'dns:example.org')",
    "qr": "from peers.cli.contacts import _drawn, ContactLink; from peers import Identity; "
    "_drawn(ContactLink(Identity.generate().guid))",
    "sodium": "import nacl.bindings",
    "tables": "from peers.cli.bars import Bars; Bars(sys.stderr)",
    "uvloop": "import uvloop",
}
"""What works with an extra, and raises without."""


def extras(installation: Installation) -> None:
    """Look at each extra: what it does is missed before, and there afterwards."""
    python = installation.program("python")
    for extra, program in IMPORTS.items():
        tried = f"import sys\ntry:\n {program}\nexcept Exception as error:\n print(error)"
        if not installation.run(python, "-c", tried):
            raise SystemExit(f"there is no need of the extra {extra}: {program}")
        installation.add(extra)
        if missed := installation.run(python, "-c", tried):
            raise SystemExit(f"the extra {extra} does not bring what it should: {missed}")
        print(f"with [{extra}]: {installation.brought()}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        for name in ("peer", "relay"):
            installation.run(installation.program(name), "--help")
        relay = (installation.program("relay"), "serve", "--port", "0", "--ready-file", "ready")
        relay += ("--state", "state")
        with installation.running(*relay):
            url = installation.wait_for("ready")
            commands(installation, url)
            readme(installation, url)
        types(installation)
        print(f"without extras: {installation.brought()}")
        extras(installation)
    print("installed from the wheel: both commands, README's program, types and extras work")


if __name__ == "__main__":
    main()
