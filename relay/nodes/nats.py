"""The nats-server between the processes of one machine: where its program is, and what it is told.

Loopback, TLS with a certificate of that start, a user with a password of chance, and nothing that
it keeps but letters, where the relay has a mailbox, and what updates have registered in its zone.
What passes it is sealed with the relay's key besides (`relay.backplane`).
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from time import monotonic

from protocol.errors import MissingExtra
from relay import disk
from relay.config import ConfigError
from relay.nodes.certificate import loopback_certificate
from relay.nodes.division import Backbone

__all__ = ["command", "has_room", "hold_port", "prepare"]

_USER = "relay"
_HOST = "127.0.0.1"
_CONFIG, _PASSWORD, _LOG = "nats.conf", "nats.password", "nats.log"
_CERTIFICATE, _KEY = "nats.crt", "nats.key"
_LETTERS = "letters"
_ROOM = 1 << 20
"""Bytes that its disk must take before it is started anew."""
_SOON = 1.0
_PATIENCE = 5
"""Seconds for a node to shake hands: the machine may be busy."""
_LONGEST_LOG = 1 << 20
"""Bytes, after which it begins another one."""


def command(folder: str) -> list[str]:
    """Return the command that runs it from a folder that is prepared.

    Raises:
        MissingExtra: there is no such program.
    """
    own = os.path.dirname(sys.executable)
    found = shutil.which("nats-server", path=own) or shutil.which("nats-server")
    if found is None:
        raise MissingExtra("several processes as one relay", "nodes")
    return [found, "-c", str(Path(folder, _CONFIG))]


def has_room(folder: str) -> bool:
    """Whether its disk takes something, and soon: one that is slow is no reason for a new start."""
    began = monotonic()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return monotonic() - began < _SOON


def hold_port() -> socket.socket:
    """Return a free loopback port that the nats-server listens at, as often as it is started, and
    that nobody is given meanwhile, until this is closed.

    It does not listen: Linux lets one program do so at a port that others merely have, where all
    of them say SO_REUSEADDR. To who wants any free port, or one for a connection, it is taken. Who
    names this one, another user too, can listen there while the nats-server does not: that one has
    not got the certificate's key, and is told nothing (docs/security.md).

    Raises:
        ConfigError: there is none.
    """
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((_HOST, 0))
    except OSError as error:
        held.close()
        raise ConfigError(f"nodes: no port for the nats-server: {error.strerror}") from None
    return held


def prepare(folder: str, port: int, *, keeps: bool) -> Backbone:
    """Write what it is told into a folder, for its owner alone; return how it is reached. With
    `keeps` it keeps letters, and what updates have registered in the zone: in that folder too, and
    what it has said is kept is on the disk.

    Raises:
        ConfigError: the folder cannot be written.
    """
    password = secrets.token_hex(32)
    certificate, key = loopback_certificate(_HOST)
    certificate_file, key_file = (str(Path(folder, name)) for name in (_CERTIFICATE, _KEY))
    lines: tuple[str, ...] = (
        f'listen: "{_HOST}:{port}"',
        f"log_file: {json.dumps(str(Path(folder, _LOG)))}",
        f"logfile_size_limit: {_LONGEST_LOG}",
        "logfile_max_num: 2",
        f"authorization {{ user: {_USER}, password: {json.dumps(password)}",
        f"timeout: {_PATIENCE} }}",
        f"tls {{ cert_file: {json.dumps(certificate_file)}, key_file: {json.dumps(key_file)}",
        f'min_version: "1.3", timeout: {_PATIENCE} }}',
    )
    if keeps:
        store = json.dumps(str(Path(folder, _LETTERS)))
        lines += (f"jetstream {{ store_dir: {store}, sync_interval: always }}",)
    try:
        for name, data in (
            (_CONFIG, "\n".join((*lines, "")).encode()),
            (_PASSWORD, password.encode()),
            (_CERTIFICATE, certificate),
            (_KEY, key),
        ):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(Path(folder, name))
            disk.make(Path(folder, name), data)
    except OSError as error:
        raise ConfigError(f"nodes: cannot write into {folder}: {error.strerror}") from None
    return Backbone(f"tls://{_HOST}:{port}", _USER, str(Path(folder, _PASSWORD)), certificate_file)
