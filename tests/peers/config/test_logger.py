"""The library's log: silent until its program asks, and then in the program's own way."""

import logging
import subprocess
import sys

import pytest

from peers.config import log


def test_what_is_said_goes_to_the_logger_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "peers"):
        log.info("path lost", peer="abcd", reason="gone")
    assert caplog.messages == ["event='path lost' peer='abcd' reason='gone'"]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("peers", "INFO")
    assert record.pathname == __file__, "whoever said it"


def test_what_nobody_wants_to_hear_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "peers"):
        log.info("path lost")
    assert caplog.messages == []


@pytest.mark.expected_errors("path lost", "closing")
def test_an_exception_goes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("100 %s")
    except ValueError as error:
        log.error("path lost", exc_info=error, reason="100 %s")
        log.exception("closing")
    lost, closing = caplog.records
    assert lost.getMessage() == "event='path lost' reason='100 %s'"
    for record in (lost, closing):
        assert record.exc_info is not None
        assert record.exc_info[0] is ValueError


def test_a_program_that_asks_for_nothing_hears_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert any(isinstance(one, logging.NullHandler) for one in logging.getLogger("peers").handlers)
    log.warning("the last resort of the standard library would print this")
    assert capfd.readouterr() == ("", "")


def test_the_library_and_its_command_import_nothing_that_only_some_need() -> None:
    program = (
        "import sys, peers.cli.main\n"
        "print(*sorted({'aiohttp', 'dns', 'http.client', 'rich', 'structlog'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
