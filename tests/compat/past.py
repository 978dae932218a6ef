"""The two trees whose programs meet: this one, and the commit that is kept for ever."""

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import environment

__all__ = ["NEW", "OLD", "PAST", "PastMissing", "Tree", "extract"]

PAST = "186971beb863133f2195c47fe83312b11c698d48"
"""The old party. It stays: what was deployed once goes on being deployed."""

NEW, OLD = "new", "old"

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "relay", "peers")


class PastMissing(AssertionError):
    """The commit cannot be had from this repository. Says what to do."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One version of the packages."""

    name: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """Return the environment in which a program imports this tree and no other: neither the
        working directory nor the program's own folder comes before it."""
        found = environment() | {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"}
        if self.name == OLD:
            # What old code is covered by says nothing of this tree.
            found = {name: value for name, value in found.items() if "COVERAGE" not in name}
            # It is compiled once, whatever holds for this tree.
            found.pop("PYTHONDONTWRITEBYTECODE", None)
        return found

    def holds(self, file: str) -> bool:
        """Whether a module was loaded from this tree."""
        return Path(file).is_relative_to(self.folder)


def extract(commit: str, folder: Path, *, repository: Path = ROOT) -> Tree:
    """Put the packages of a commit into a folder; nothing is checked out.

    Raises:
        PastMissing: the repository does not have the commit, or there is none.
    """
    git = ["git", "-c", f"safe.directory={repository}", "-C", str(repository)]
    try:
        done = subprocess.run(
            [*git, "archive", "--format=tar", commit, *PACKAGES],
            capture_output=True,
            timeout=30,
            check=False,
            # A hook that runs the tests names another repository here.
            env={name: value for name, value in os.environ.items() if name[:4] != "GIT_"},
        )
    except FileNotFoundError:
        raise PastMissing("tests/compat needs git: apt-get install git") from None
    if done.returncode != 0:
        raise PastMissing(
            f"tests/compat needs commit {commit[:7]}, the old party, and git archive does not give "
            f"it ({done.stderr.decode(errors='replace').strip()}). In a shallow clone run "
            "'git fetch --unshallow'; a tree without its repository cannot be tested."
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return Tree(OLD, folder)
