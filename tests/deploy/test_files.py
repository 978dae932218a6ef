"""The files of deploy/: looked at by those who will read them."""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "roam-relay.service"
MOST = 20
"""Tenths of the exposure that `systemd-analyze security` says at most: 96 is everything."""


def said(*words: str) -> str:
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is here."""
    text = UNIT.read_text()
    assert "ExecStart=/opt/roam-relay/bin/relay serve " in text
    file = tmp_path / UNIT.name
    file.write_text(text.replace("/opt/roam-relay/bin/relay", sys.executable))
    return file


def test_systemd_reads_the_unit_without_a_word(unit: Path) -> None:
    assert said("systemd-analyze", "verify", str(unit)) == ""


def test_the_unit_may_do_what_a_relay_does_and_little_else(unit: Path) -> None:
    words = ("security", "--offline=true", "--no-pager", f"--threshold={MOST}", str(unit))
    assert "Overall exposure level" in said("systemd-analyze", *words)


def test_the_docker_file_has_nothing_to_mend() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter is not None
    assert said(linter, str(ROOT / "deploy" / "Dockerfile")) == ""


def test_the_image_has_all_that_the_packages_need() -> None:
    """What is copied is what is installed."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]:
        package = pattern.rstrip("*")
        assert f"COPY {package} /source/{package}" in text
    for extra in ("dns", "sodium", "uvloop"):
        assert extra in project["project"]["optional-dependencies"]
    assert f"EXPOSE {RelayConfig().port}" in text


def test_the_compose_file_names_what_is_here() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text()
    assert "dockerfile: deploy/Dockerfile" in text
    assert f'"{RelayConfig().port}:{RelayConfig().port}"' in text
    volume = next(
        line.split()[1]
        for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
        if line.startswith("VOLUME")
    )
    assert f"state:{volume}" in text


async def test_the_hook_of_an_acme_client_gives_the_relay_its_certificate(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    (hook,) = re.findall(r"<!-- test: acme -->\n```sh\n(.*?)```", page, re.DOTALL)
    lineage, there, programs = (tmp_path / name for name in ("live", "etc", "bin"))
    for folder in (lineage, there, programs):
        folder.mkdir()
    chain, key = certificate(lineage)
    os.rename(chain, lineage / "fullchain.pem")
    os.rename(key, lineage / "privkey.pem")
    (programs / "systemctl").write_text(f"#!/bin/sh\necho $* > {tmp_path}/told\n")
    (programs / "systemctl").chmod(0o755)
    script = hook.replace("/etc/roam-relay/", f"{there}/").replace("ssl-cert", str(os.getgid()))
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RENEWED_LINEAGE": str(lineage),
    }
    running = ["sh", "-c", script]
    await asyncio.to_thread(subprocess.run, running, check=True, timeout=60, env=environment)
    assert (tmp_path / "told").read_text() == "reload roam-relay\n"
    assert {one.name: one.stat().st_mode & 0o777 for one in there.iterdir()} == {
        "fullchain.pem": 0o640,
        "privkey.pem": 0o640,
    }
    files = {"tls_certificate": "fullchain.pem", "tls_key": "privkey.pem"}
    config = RelayConfig(port=0, **{key: str(there / name) for key, name in files.items()})
    async with RelayServer(config) as relay:
        port = int(relay.url.rpartition(":")[2])
        shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
    assert shown.strip() == (lineage / "fullchain.pem").read_text().strip()
