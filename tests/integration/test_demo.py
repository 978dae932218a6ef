"""`make demo` is what a newcomer sees first: it judges by facts, and says what it has found."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from examples import demo
from peers import Mode
from tests.support.processes import environment

SIZE = 1000


def seen(**changes: Any) -> list[dict[str, Any]]:
    """What a correspondent tells of a demo in which all is well, but for the changes to a mode."""
    told = []
    for mode in Mode:
        one: dict[str, Any] = {
            "mode": mode.value,
            "path": "relayed" if mode is Mode.CENTRAL else "direct",
            "messages": 50,
            "in_order": 50,
            "sha256": "right",
            "relayed": SIZE + 90 if mode is Mode.CENTRAL else 0,
        }
        told.append(one | changes.get(mode.value, {}))
    return told


STORED = dict.fromkeys(("payload.bin", *(f"{n}-payload.bin" for n in (1, 2, 3))), "right")


def test_the_demo_shows_every_mode() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[2] / "examples" / "demo.py")],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment() | {"DEMO_MIB": "16"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, found, following = done.stdout.partition("Everything arrived intact.\n")
    assert found
    for named in ("make lab", ".venv/bin/relay serve", "docs/chat.md", "docs/index.md"):
        assert named in following
        assert not named.startswith("docs/") or (demo.HERE.parent / named).exists()
    for mode in ("p2p", "central", "combined", "auto"):
        assert mode in done.stdout


def test_a_file_that_is_changed_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forger = tmp_path / "forger.py"
    forger.write_text(
        textwrap.dedent(
            f"""
            import asyncio, sys
            from pathlib import Path
            sys.path.insert(0, {str(demo.HERE)!r})
            import mobile_node

            original = mobile_node.receive_file

            async def forging(session, parts, progress):
                stored = await original(session, parts, progress)
                if stored.path.name == "2-payload.bin":
                    data = bytearray(stored.path.read_bytes())
                    data[1000] ^= 1
                    stored.path.write_bytes(data)
                return stored

            mobile_node.receive_file = forging
            asyncio.run(mobile_node.main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
            """
        )
    )
    monkeypatch.setattr(demo, "MOBILE_NODE", forger)
    monkeypatch.setenv("DEMO_MIB", "1")
    assert demo.main() == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        "Something was lost or changed:",
        "  combined: its file 2-payload.bin is changed",
    ]


@pytest.mark.parametrize("relayed", [0, SIZE // 2, SIZE * 2])
@pytest.mark.parametrize("path", ["direct", "relayed"])
def test_how_much_auto_relays_and_where_it_stands_is_not_judged(relayed: int, path: str) -> None:
    told = seen(auto={"relayed": relayed, "path": path, "setup_ms": 60_000})
    assert demo.judge(told, STORED, "right", SIZE) == []


@pytest.mark.parametrize(
    ("changes", "stored", "wrong"),
    [
        ({"p2p": {"in_order": 49}}, STORED, "p2p: 49 of 50 messages came in order"),
        ({"p2p": {"path": "relayed"}}, STORED, "p2p: the path is relayed, not direct"),
        ({"combined": {"path": "relayed"}}, STORED, "combined: the path is relayed, not direct"),
        ({"central": {"path": "direct"}}, STORED, "central: the path is direct, not relayed"),
        ({"central": {"relayed": 9}}, STORED, "central: only 9 of 1000 bytes passed the relay"),
        ({"p2p": {"relayed": 1090}}, STORED, "p2p: 1090 bytes passed the relay"),
        ({"auto": {"sha256": "other"}}, STORED, "auto: another file was sent"),
        ({}, STORED | {"1-payload.bin": "no"}, "central: its file 1-payload.bin is changed"),
        ({}, dict(list(STORED.items())[:3]), "auto: its file 3-payload.bin is missing"),
        ({}, STORED | {"4-payload.bin": "right"}, "nobody sent 4-payload.bin"),
    ],
)
def test_what_is_wrong_is_named(
    changes: dict[str, Any], stored: dict[str, str], wrong: str
) -> None:
    assert demo.judge(seen(**changes), stored, "right", SIZE) == [wrong]


def test_a_mode_that_fails_and_one_that_nobody_tells_of() -> None:
    told = seen()
    told[1] = {"mode": "central", "error": "PathFailed: no endpoint", "relayed": 0}
    del told[3]
    assert demo.judge(told, STORED, "right", SIZE) == [
        "central: PathFailed: no endpoint",
        "auto: the correspondent tells nothing of it",
    ]
