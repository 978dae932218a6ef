"""Answers where there is no upgrade."""

import base64
import json

import pytest
from multidict import CIMultiDict

from protocol.errors import Code, RoamRelayError
from protocol.messages import CODE_HEADER, EARLY_HEADER, MAX_EARLY
from relay.http import answers


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.TICKET_UNKNOWN, 404),
        (Code.TICKET_FOREIGN, 403),
        (Code.LIMIT_EXCEEDED, 429),
        (Code.RESTARTING, 503),
        (Code.INTERNAL, 500),
    ],
)
def test_a_refusal_says_its_code_twice(code: Code, status: int) -> None:
    answer = answers.refused(RoamRelayError("because", code=code), 1.5)
    assert answer.status == status
    assert answer.headers[CODE_HEADER] == code.value
    assert answer.headers["Retry-After"] == "2", "whole seconds, and not too early"
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body) == {"code": code.value, "reason": "because"}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (None, b""),
        (base64.b64encode(b"x" * MAX_EARLY).decode(), b"x" * MAX_EARLY),
        (base64.b64encode(b"x" * (MAX_EARLY + 1)).decode(), None),
        ("@@@", None),
        ("YQ=", None),
    ],
)
def test_early_bytes(header: str | None, data: bytes | None) -> None:
    headers = {} if header is None else {EARLY_HEADER: header}
    assert answers.early_bytes(CIMultiDict(headers)) == data
