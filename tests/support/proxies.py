"""Real reverse proxies as processes, with the configurations of docs/deploy.md."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"

_MAIN = {
    "nginx": (
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;\n"
        "events {{ worker_connections 256; }}\n"
        "http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};\n"
        "fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};\n{text}\n}}"
    ),
    "haproxy": "global\n    maxconn 256\n\n{text}",
    "caddy": ("{{\n admin off\n auto_https off\n storage file_system {folder}\n}}\n{text}"),
}
"""What stands around the page's part; its braces are doubled."""

_COMMANDS = {
    "nginx": ("nginx", "-e", "{folder}/log", "-p", "{folder}", "-c", "{file}"),
    "haproxy": ("haproxy", "-db", "-f", "{file}"),
    "caddy": ("caddy", "run", "--adapter", "caddyfile", "--config", "{file}"),
}


def configuration(name: str) -> str:
    """Return the configuration of that name on the page."""
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"docs/deploy.md has no configuration {name}"
    return found[1]


def changed(text: str, changes: dict[str, str]) -> str:
    """Replace what differs between the page and a test; all of it must be there."""
    for old, new in changes.items():
        assert old in text, f"docs/deploy.md does not say {old!r}"
        text = text.replace(old, new)
    return text


def program(name: str) -> str:
    """Return a proxy's path; without it the test is skipped, or fails in CI."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        if os.environ.get("LAB_REQUIRED"):
            pytest.fail(f"{name} is not here")
        pytest.skip(f"{name} is not here")
    return path


@contextlib.asynccontextmanager
async def proxy(kind: str, text: str, port: int, folder: Path) -> AsyncIterator[None]:
    """Run a proxy with the page's part of its configuration until the block ends; it serves when
    the block begins."""
    file = folder / f"{kind}.conf"
    file.write_text(_MAIN[kind].format(text=text, folder=folder))
    first, *words = (word.format(folder=folder, file=file) for word in _COMMANDS[kind])
    with (folder / f"{kind}.said").open("w") as said:
        process = await asyncio.create_subprocess_exec(
            program(first),
            *words,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=said,
            env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )
    try:
        async with asyncio.timeout(60):
            while True:
                assert process.returncode is None, (folder / f"{kind}.said").read_text()
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.transport.abort()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()
