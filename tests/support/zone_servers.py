"""Knot and PowerDNS for tests, with the configuration that docs/ddns.md shows: on loopback, a high
port, and a folder of their own."""

import base64
import contextlib
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.tsig

from tests.support.named import DOCS, ZONE, ZONE_FILE, Named, need, stopped
from tests.support.ports import free_port

__all__ = ["knot", "powerdns"]

_SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")


@contextlib.contextmanager
def knot(folder: Path, keys: Sequence[dns.tsig.Key], *, records: str = "") -> Iterator[Named]:
    """Run Knot; `records` are in its zone from the start."""
    port = free_port()
    (folder / f"{ZONE}.zone").write_text(ZONE_FILE + records)
    (folder / "knot.conf").write_text(
        f"""\
server:
    listen: 127.0.0.1@{port}
    rundir: {folder}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1

log:
  - target: stderr
    any: info

database:
    storage: {folder}
    journal-db-max-size: 16M
    kasp-db-max-size: 16M
    timer-db-max-size: 16M
    catalog-db-max-size: 16M

template:
  - id: default
    storage: {folder}

{_knot_configuration(keys)}"""
    )
    command = [need("knotd", "knot"), "-c", str(folder / "knot.conf")]
    with _running(folder, command, port) as server:
        yield server


@contextlib.contextmanager
def powerdns(folder: Path, keys: Sequence[dns.tsig.Key], *, records: str = "") -> Iterator[Named]:
    """Run PowerDNS above SQLite; `records` are in its zone from the start."""
    port = free_port()
    program = need("pdns_server", "pdns-server, pdns-backend-sqlite3")
    database, zone = folder / "pdns.sqlite3", folder / "zone"
    zone.write_text(ZONE_FILE + records)
    with contextlib.closing(sqlite3.connect(database)) as made:
        made.executescript(_SCHEMA.read_text())
    (folder / "pdns.conf").write_text(
        f"""\
local-address=127.0.0.1
local-port={port}
socket-dir={folder}
launch=gsqlite3
gsqlite3-database={database}
gsqlite3-pragma-synchronous=0
receiver-threads=1
distributor-threads=1
signing-threads=1
security-poll-suffix=
{_shown("pdns.conf")}"""
    )
    tool = [need("pdnsutil", "pdns-server"), f"--config-dir={folder}"]
    names = [key.name.to_text(omit_final_dot=True) for key in keys]
    commands = [f"pdnsutil load-zone {ZONE} {zone}"]
    for line in _shown("pdnsutil").splitlines():
        if "SECRET" in line:
            for key, name in zip(keys, names, strict=True):
                secret = base64.b64encode(key.secret).decode()
                commands.append(line.replace(f"GUID.{ZONE}", name).replace("SECRET", secret))
        elif "create-zone" not in line:
            commands.append(line.replace(f"GUID.{ZONE}", " ".join(names)))
    for command in commands:
        done = subprocess.run(
            [*tool, *command.split()[1:]], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
    with _running(folder, [program, f"--config-dir={folder}", "--daemon=no"], port) as server:
        yield server


def _shown(what: str) -> str:
    """Return the block of docs/ddns.md that is marked so."""
    found = re.search(rf"<!-- {re.escape(what)} -->\n```\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None, what
    return found[1]


def _knot_configuration(keys: Sequence[dns.tsig.Key]) -> str:
    head, key, acl, zone = re.split(r"(?<=\n)(?=key:|acl:|zone:)", "\n" + _shown("knot.conf"))
    assert not head.strip()
    text = ""
    for part in (key, acl):
        title, item = part.split("\n", 1)
        text += title + "\n"
        for one in keys:
            name = one.name.to_text(omit_final_dot=True)
            secret = base64.b64encode(one.secret).decode()
            made = item.replace(f"GUID.{ZONE}", name).replace("SECRET", secret)
            text += made.replace("GUID", name.partition(".")[0]).rstrip("\n") + "\n"
    ids = ", ".join(one.name.to_text().partition(".")[0] for one in keys)
    return text + zone.replace("acl: GUID", f"acl: [{ids}]")


@contextlib.contextmanager
def _running(folder: Path, command: list[str], port: int) -> Iterator[Named]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        with stopped(process):
            end = time.monotonic() + 30
            while not _answers(port):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.02)
            yield Named("127.0.0.1", port, process)


def _answers(port: int) -> bool:
    query = dns.message.make_query(ZONE, "SOA")
    with contextlib.suppress(OSError, dns.exception.DNSException):
        return bool(dns.query.udp(query, "127.0.0.1", 0.2, port).answer)
    return False
