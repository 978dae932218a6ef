"""`relay check`: what it calls an error keeps the relay from serving, and what it does not call one
does not; it changes nothing."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from protocol.errors import RoamRelayError
from relay import check as module
from relay.check import Finding, look
from relay.cli import main
from relay.config import RelayConfig, load
from relay.key_file import read_key
from relay.rotation import read_former
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.support import processes

KEY = "relay.key"


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


async def found(config: RelayConfig) -> dict[str, Finding]:
    """Return what is found, the worst of each subject."""
    worst: dict[str, Finding] = {}
    order = ("good", "warning", "error")
    async for one in look(config):
        before = worst.get(one.about)
        if before is None or order.index(one.level) > order.index(before.level):
            worst[one.about] = one
    return worst


async def starts(config: RelayConfig) -> bool:
    """Whether a relay serves with a configuration."""
    try:
        key, former = None, ()
        if config.identity is not None:
            key = read_key(file := config.in_state(config.identity))
            former = read_former(file, key)
        async with RelayServer(config, key, former=former):
            return True
    except RoamRelayError:
        return False


def complete(folder: Path) -> dict[str, Any]:
    """Return settings of which nothing is wrong, with files of all kinds."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    assert run("key", str(state / KEY)).exit_code == 0
    chain, key = certificate(folder)
    token = state / "token"
    token.touch(0o600)
    token.write_text("a" * 32)
    return {
        "port": 0,
        "state": str(state),
        "identity": KEY,
        "tls_certificate": chain,
        "tls_key": key,
        "admin_host": "127.0.0.1",
        "admin_port": 0,
        "admin_token": "token",
        "dns": {"zone": "peers.example.org", "port": 0, "store": "zone.sqlite"},
    }


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file): (file.stat().st_mode, file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
    }


async def test_what_is_right_has_no_error_and_is_not_touched(tmp_path: Path) -> None:
    config = load(None, {}, complete(tmp_path))
    assert await starts(config)  # Its stores are there from now on.
    before = snapshot(tmp_path)
    findings = await found(config)
    assert not [one for one in findings.values() if one.level == "error"], findings
    assert findings["identity"].said == read_key(config.in_state(KEY)).guid
    assert findings["store"].level == findings["certificate"].level == "good"
    assert snapshot(tmp_path) == before


async def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    config = RelayConfig(port=0, state=str(tmp_path / "a" / "b"))
    assert (await found(config))["state"].said == f"{tmp_path}/a/b will be made"
    assert not (tmp_path / "a").exists()
    assert await starts(config)


def lock_key(settings: dict[str, Any]) -> None:
    os.chmod(settings["tls_key"], 0o602)


def other_key(settings: dict[str, Any]) -> None:
    folder = Path(settings["state"])
    settings["tls_key"] = certificate(folder)[1]


def no_certificate(settings: dict[str, Any]) -> None:
    Path(settings["tls_certificate"]).write_text("none")


def bad_former_key(settings: dict[str, Any]) -> None:
    (Path(settings["state"]) / f"{KEY}.former").write_text("none")


def no_identity(settings: dict[str, Any]) -> None:
    settings["identity"] = "another.key"


def bad_identity(settings: dict[str, Any]) -> None:
    (Path(settings["state"]) / KEY).write_text("none")


def short_token(settings: dict[str, Any]) -> None:
    (Path(settings["state"]) / "token").write_text("short")


def no_token(settings: dict[str, Any]) -> None:
    (Path(settings["state"]) / "token").unlink()


def open_folder(settings: dict[str, Any]) -> None:
    os.chmod(settings["state"], 0o777)


def no_folder(settings: dict[str, Any]) -> None:
    settings["identity"] = str(Path(settings["state"]) / KEY)
    settings["admin_token"] = str(Path(settings["state"]) / "token")
    file = Path(settings["state"]) / "file"
    file.touch()
    settings["state"] = str(file)


def broken_store(settings: dict[str, Any]) -> None:
    (Path(settings["state"]) / "relay.sqlite").write_bytes(b"no database" * 1000)


def broken_zone(settings: dict[str, Any]) -> None:
    (Path(settings["state"]) / "zone.sqlite").write_bytes(b"no database" * 1000)


def newer_store(settings: dict[str, Any]) -> None:
    with sqlite3.connect(Path(settings["state"]) / "known.sqlite") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()


def not_here(settings: dict[str, Any]) -> None:
    settings["host"] = "192.0.2.77"
    settings["dns"] |= {"host": "127.0.0.1"}


def admin_not_here(settings: dict[str, Any]) -> None:
    settings["admin_host"] = "192.0.2.77"


def zone_not_here(settings: dict[str, Any]) -> None:
    settings["dns"] |= {"host": "192.0.2.77"}


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a key that others may write": (lock_key, "certificate"),
    "the key of another certificate": (other_key, "certificate"),
    "no certificate in the file": (no_certificate, "certificate"),
    "no key file": (no_identity, "identity"),
    "no key in the file": (bad_identity, "identity"),
    "former keys that are none": (bad_former_key, "identity"),
    "a token that is too short": (short_token, "admin_token"),
    "no token": (no_token, "admin_token"),
    "a folder that others may write into": (open_folder, "state"),
    "a file in place of the folder": (no_folder, "state"),
    "a store that is none": (broken_store, "store"),
    "a zone that is none": (broken_zone, "store"),
    "a store of a newer version": (newer_store, "store"),
    "an address of another machine": (not_here, "port"),
    "metrics at one": (admin_not_here, "admin_port"),
    "the zone at one": (zone_not_here, "dns: port"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_keeps_a_relay_from_serving_is_an_error(tmp_path: Path, name: str) -> None:
    fault, about = FAULTS[name]
    settings = complete(tmp_path)
    fault(settings)
    config = load(None, {}, settings)
    before = snapshot(tmp_path)
    findings = await found(config)
    assert [one.about for one in findings.values() if one.level == "error"] == [about], findings
    assert snapshot(tmp_path) == before
    assert not await starts(config)


async def test_a_port_that_another_program_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = RelayConfig(port=taken.getsockname()[1])
        one = (await found(config))["port"]
        assert one.level == "error"
        assert "another program listens there" in one.said
        assert not await starts(config)
    assert (await found(config))["port"].level == "good"


async def test_a_relay_that_runs_has_its_port_and_its_folder(tmp_path: Path) -> None:
    async with RelayServer(RelayConfig(port=0, state=str(tmp_path / "state"))) as relay:
        config = RelayConfig(port=int(relay.url.rpartition(":")[2]), state=str(tmp_path / "state"))
        findings = await found(config)
        assert "0 peers" in findings["running"].said
        assert findings["port"].level == "good"
        assert "while a relay runs" in findings["port"].said


@pytest.mark.parametrize(
    ("days", "level", "words"),
    [(-1, "error", "has ended"), (3, "warning", "it ends"), (100, "good", "good until")],
)
async def test_the_end_of_a_certificate(
    tmp_path: Path, days: float, level: str, words: str
) -> None:
    chain, key = certificate(tmp_path, days)
    one = (await found(RelayConfig(port=0, tls_certificate=chain, tls_key=key)))["certificate"]
    assert (one.level, words in one.said) == (level, True)
    os.chmod(key, 0o604)
    findings = await found(RelayConfig(port=0, tls_certificate=chain, tls_key=key))
    assert findings["certificate"].level == ("error" if level == "error" else "warning")


async def test_what_is_insecure_is_a_warning(tmp_path: Path) -> None:
    plain = await found(RelayConfig(port=0, host="0.0.0.0"))
    assert plain["reach"].level == plain["state"].level == plain["identity"].level == "warning"
    assert "admission" in plain
    chain, key = certificate(tmp_path)
    config = RelayConfig(port=0, host="0.0.0.0", tls_certificate=chain, tls_key=key)
    assert "reach" not in await found(config)
    behind = RelayConfig(port=0, host="0.0.0.0", trusted_proxies=("10.0.0.0/8",))
    assert "reach" not in await found(behind)


async def test_what_the_system_bounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "hard_limit", lambda: 1024)
    assert "LimitNOFILE" in (await found(RelayConfig(port=0)))["descriptors"].next_step
    assert (await found(RelayConfig(port=0, max_connections=10)))["descriptors"].level == "good"
    pages = tmp_path / "pages"
    monkeypatch.setattr(module, "_PIPE_PAGES", pages)
    monkeypatch.setattr(module, "_is_unbound", lambda: False)
    assert "pipes" not in await found(RelayConfig(port=0))
    pages.write_text("16384\n")
    assert "64 MiB" in (await found(RelayConfig(port=0)))["pipes"].said
    pages.write_text("0\n")
    assert "pipes" not in await found(RelayConfig(port=0))


async def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has", lambda extra: False)
    config = load(None, {}, {"port": 0, "dns": {"zone": "peers.example.org", "port": 0}})
    findings = await found(config)
    assert "roam-relay[dns]" in findings["dns"].said
    assert findings["loop"].level == findings["signatures"].level == "warning"


def test_a_key_that_is_gone_is_told_from_one_that_was_never_there(tmp_path: Path) -> None:
    words = ("check", "--port", "0", "--state", str(tmp_path / "state"))
    assert "relay.key will be made" in run(*words).stdout
    (tmp_path / "state").mkdir(0o700)
    (tmp_path / "state" / "relay.sqlite").touch()
    assert "the next start makes another GUID" in run(*words).stdout


def test_the_command(tmp_path: Path) -> None:
    """Warnings end with 0, an error with 1, and what cannot be read is one line."""
    good = run("check", "--port", "0", "--state", "")
    assert good.exit_code == 0
    assert re.search(r"^0 errors, \d+ warnings$", good.stdout, re.MULTILINE)
    assert "→ name a folder as 'state'" in good.stdout
    wrong = run("check", "--port", "0", "--state", str(tmp_path / "\x1b[1m"), "--identity", "no")
    assert wrong.exit_code == 1
    assert "\x1b" not in wrong.stdout
    assert "1 errors" in wrong.stdout
    lines = [json.loads(line) for line in run("check", "--port", "0", "--json").stdout.splitlines()]
    assert {"level", "about", "said", "next_step"} == set(lines[0])
    assert "unknown key" in run_with(tmp_path, "colour = 1").output


def run_with(folder: Path, text: str) -> Result:
    (folder / "relay.toml").write_text(text)
    done = run("check", "--config", str(folder / "relay.toml"))
    assert done.exit_code == 1
    return done


def test_beside_a_relay_that_serves(tmp_path: Path) -> None:
    """As its operator would, with the words that it was started with."""
    state = str(tmp_path / "state")
    with processes.relay(tmp_path, "--state", state) as (url, _):
        port = url.rpartition(":")[2]
        done = subprocess.run(
            [sys.executable, "-m", "relay", "check", "--state", state, "--port", port],
            text=True,
            capture_output=True,
            timeout=60,
            env=processes.environment(),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "serves since" in done.stdout
    assert done.stderr == ""
