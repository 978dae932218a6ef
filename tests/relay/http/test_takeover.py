"""Which requests ask for which carrier."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from relay.http.raw_request import is_raw_upgrade
from relay.http.takeover import is_foreign_websocket


@pytest.mark.parametrize(
    ("connection", "upgrade", "raw"),
    [
        ("Upgrade", "roam-relay/1", True),
        ("keep-alive, Upgrade", " Roam-Relay/1 ", True),
        ("Upgrade", "websocket", False),
        ("keep-alive", "roam-relay/1", False),
        ("", "", False),
        ("Up grade", "roam-relay/1", False),
    ],
)
def test_the_raw_upgrade(connection: str, upgrade: str, raw: bool) -> None:
    headers = {"Connection": connection, "Upgrade": upgrade}
    assert is_raw_upgrade(CIMultiDict(headers)) is raw


@pytest.mark.parametrize(
    ("offered", "foreign"),
    [(None, False), ("roam-relay.1", False), ("chat, roam-relay.1", False), ("chat", True)],
)
def test_a_websocket_of_another_protocol(offered: str | None, foreign: bool) -> None:
    headers = {} if offered is None else {"Sec-WebSocket-Protocol": offered}
    assert is_foreign_websocket(make_mocked_request("GET", "/", headers=headers)) is foreign
