"""A program outside the checkout: it finds the types, and is told of a name that is in the way."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed.__main__ import TYPED, environment


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("package", ["peers", "relay.server"])
def test_a_namesake_of_protocol_is_named(tmp_path: Path, package: str) -> None:
    (tmp_path / "protocol.py").write_text("mine = True\n")
    (tmp_path / "program.py").write_text(f"import {package}\n")
    done = run(tmp_path, "program.py")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert f"{tmp_path}/protocol.py" in done.stderr
    assert "give it another name" in done.stderr


def test_what_is_beside_the_packages_is_not_importable(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import peers, relay, protocol\nimport tests\n")
    done = run(tmp_path, "program.py")
    assert "No module named 'tests'" in done.stderr


@pytest.mark.nightly
def test_a_program_finds_the_types_of_an_editable_install(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    done = run(tmp_path, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "typed.py")
    assert 'Revealed type is "bytes"' in done.stdout, done.stdout
    assert done.returncode == 0, done.stdout
