"""What the `relay` command does not import, as its start would wait for that."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, ssl, sys
read = []
loads = ssl.SSLContext.load_default_certs
def load_default_certs(self, *args):
    loads(self, *args)
    read.append(self.cert_store_stats()["x509"])
ssl.SSLContext.load_default_certs = load_default_certs
from relay import __main__ as started
before = dict(os.environ)
try:
    started.main()
except SystemExit as ended:
    assert not ended.code, ended.code
assert "relay.server" in sys.modules
assert "aiohttp.web" in sys.modules
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("rich", "pygments")))
print(sum(read), dict(os.environ) == before)
"""


@pytest.mark.parametrize("authorities", [None, "/nowhere.pem"])
def test_the_start_reads_no_authorities_and_draws_no_tables(authorities: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "SSL_CERT_FILE"}
    if authorities is not None:
        environment["SSL_CERT_FILE"] = authorities
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, "--version"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == ["[]", "0 True"]


def test_what_was_not_imported_can_be_later() -> None:
    """`relay top` draws with it where it is there."""
    script = (
        "import importlib.util, sys\nfrom relay import __main__ as started\n"
        "there = importlib.util.find_spec('rich')\n"
        "with started._spared():\n    pass\n"
        "assert (importlib.util.find_spec('rich') is None) is (there is None)\n"
    )
    subprocess.run([sys.executable, "-c", script], timeout=120, check=True)
