"""The library's log: silent until its program asks, and then in the program's own way."""

import logging

import pytest

from peers.config import log


def test_what_is_said_goes_to_the_logger_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "peers"):
        log.info("path lost", peer="abcd", reason="gone")
    assert caplog.messages == ["event='path lost' peer='abcd' reason='gone'"]
    assert caplog.records[0].name == "peers"


def test_what_nobody_wants_to_hear_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "peers"):
        log.info("path lost")
    assert caplog.messages == []


def test_a_program_that_asks_for_nothing_hears_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert any(isinstance(one, logging.NullHandler) for one in logging.getLogger("peers").handlers)
    log.warning("the last resort of the standard library would print this")
    assert capfd.readouterr() == ("", "")
