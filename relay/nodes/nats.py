"""The nats-server between the processes of one machine: where its program is, and what it is told.

Loopback, a user with a password of chance, and nothing that it keeps but letters, where the relay
has a mailbox, and what updates have registered in its zone. What passes it is sealed with the
relay's key besides (`relay.backplane`).
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path

from protocol.errors import MissingExtra
from relay import disk
from relay.config import ConfigError
from relay.nodes.division import Backbone

__all__ = ["command", "hold_port", "prepare"]

_USER = "relay"
_CONFIG, _PASSWORD, _LOG = "nats.conf", "nats.password", "nats.log"
_LETTERS = "letters"
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


def hold_port() -> socket.socket:
    """Return a free loopback port that the nats-server listens at, as often as it is started, and
    that nobody is given meanwhile, until this is closed.

    It does not listen: Linux lets one program do so at a port that others merely have, where all
    of them say SO_REUSEADDR. To who wants any free port, or one for a connection, it is taken. Who
    names this one, another user too, can listen there while the nats-server does not
    (docs/security.md).

    Raises:
        ConfigError: there is none.
    """
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
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
    lines: tuple[str, ...] = (
        f'listen: "127.0.0.1:{port}"',
        f"log_file: {json.dumps(str(Path(folder, _LOG)))}",
        f"logfile_size_limit: {_LONGEST_LOG}",
        "logfile_max_num: 2",
        f"authorization {{ user: {_USER}, password: {json.dumps(password)} }}",
    )
    if keeps:
        store = json.dumps(str(Path(folder, _LETTERS)))
        lines += (f"jetstream {{ store_dir: {store}, sync_interval: always }}",)
    try:
        for name, text in ((_CONFIG, "\n".join((*lines, ""))), (_PASSWORD, password)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(Path(folder, name))
            disk.make(Path(folder, name), text.encode())
    except OSError as error:
        raise ConfigError(f"nodes: cannot write into {folder}: {error.strerror}") from None
    return Backbone(f"nats://127.0.0.1:{port}", _USER, str(Path(folder, _PASSWORD)))
