"""`peer conformance`: how the kit is asked for, and what it prints. What it finds is the kit's own
(tests/peers/conformance).
"""

import json
import shlex
import sys

import pytest

from peers.conformance import every_rule
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.cli.commands import run_peer


def adapter(said: str) -> str:
    """Return the command of one that says this to everything."""
    program = (
        "import json, sys\n"
        "for line in sys.stdin:\n"
        f"    print(json.dumps({{'id': json.loads(line)['id'], {said}}}), flush=True)"
    )
    return shlex.join([sys.executable, "-I", "-S", "-c", program])


async def of_relay(*more: str) -> tuple[int, str, str]:
    async with RelayServer(RelayConfig(port=0)) as relay:
        return await run_peer("conformance", "relay", relay.url, *more)


async def test_a_relay_that_keeps_the_rules_of_a_section() -> None:
    code, out, error = await of_relay("--rule", "R14", "--rule", "R3.19")
    assert code == 0, error
    assert out.splitlines()[0].startswith("R3.19   §3   passed         answers a request without")
    last = "4 rules, 4 checks: 4 passed, 0 failed, 0 not tried, 0 not applicable"
    assert out.splitlines()[-1] == last


async def test_the_same_for_programs() -> None:
    code, out, _ = await of_relay("--rule", "R14.1", "--json")
    assert code == 0
    rule, counts = map(json.loads, out.splitlines())
    assert (rule["rule"], rule["section"], rule["outcome"]) == ("R14.1", "§14", "passed")
    assert rule["checks"][0]["what"] == "tells over HTTP what may be disclosed to anyone"
    others = {"failed": 0, "not_tried": 0, "not_applicable": 0}
    assert counts == {"passed": 1, "checks": 1, **others}


async def test_what_an_adapter_does_not_know_is_not_tried_and_breaks_nothing() -> None:
    arguments = (
        "conformance",
        "peer",
        "--command",
        adapter("'unsupported': True"),
        "--rule",
        "R3.4",
    )
    code, out, _ = await run_peer(*arguments)
    assert code == 0
    assert "not tried ×1: the adapter does not support 'open' (raw)" in out


async def test_a_broken_rule_has_its_line_and_the_exit_code_1() -> None:
    somebody_else = adapter("'done': {'guid': 'another'}")
    arguments = ("conformance", "peer", "--command", somebody_else, "--rule", "R3.4")
    code, out, error = await run_peer(*arguments)
    assert code == 1
    assert out.splitlines()[0].startswith("R2.1    §2   FAILED")
    assert error == "peer: broken: R2.1\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("peer", "--command", "/nowhere/at/all"), "cannot start '/nowhere/at/all'"),
        (("peer", "--rule", "R99.1"), "no check of R99.1"),
        (("relay", "http://127.0.0.1:1"), "cannot connect to 127.0.0.1:1"),
        (("relay", "nonsense"), "no http:// or https:// URL"),
        (("relay", "--start", "/nowhere {port}"), "cannot start '/nowhere'"),
        (("relay", "--start", f"{sys.executable} -c 0"), "does not serve"),
    ],
)
async def test_what_cannot_be_checked_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    code, out, error = await run_peer("conformance", *arguments)
    assert (code, out) == (1, "")
    assert error.count("\n") == 1
    assert said in error


async def test_all_rules_that_are_checked_are_listed() -> None:
    code, out, _ = await run_peer("conformance", "rules", "--json")
    assert code == 0
    listed = [json.loads(line) for line in out.splitlines()]
    assert {one["rule"] for one in listed} == set(every_rule())
    assert {one["of"] for one in listed} == {"peer", "relay"}
    assert len(listed) == sum(map(len, every_rule().values()))
