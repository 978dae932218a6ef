"""The draft's figures as tests: which addresses the packets use is the kernel's word."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.draft import IP1, IP2, SERVER, Draft, draft
from tests.lab.network import LabUnavailable
from tests.lab.programs import Conversation, echo, locate, relay


@pytest.fixture
def lab() -> Iterator[Draft]:
    try:
        with draft() as built:
            yield built
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))


@contextlib.contextmanager
def talk(lab: Draft, name: str, folder: Path, guid: str, mode: str) -> Iterator[Conversation]:
    conversation = Conversation(lab.net[name], folder, guid, mode)
    try:
        conversation.begin()
        conversation.more()
        yield conversation
    finally:
        conversation.close()


def test_figure_1_old_sessions_stay_and_new_ones_use_the_new_address(
    lab: Draft, tmp_path: Path
) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path) as server,
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn1", tmp_path, guid, "combined") as cn1,
    ):
        assert IP1 in net["cn1"].remote_hosts()
        lab.anchor()
        cn1.more(200)
        assert IP1 in net["cn1"].remote_hosts(), "the move alone disturbs no session"
        assert IP2 not in net["cn1"].remote_hosts()
        with talk(lab, "cn3", tmp_path, guid, "combined") as cn3:
            assert IP2 in net["cn3"].remote_hosts()
            assert IP1 not in net["cn3"].remote_hosts()
            lab.end_anchor()
            cn1.moves_to(IP2)
            cn3.finish()
        gap = cn1.finish()
        assert server.registrations(guid) <= 6, "flows come and go with addresses, and not by turns"
        print(f"figure 1: {cn1.sent} messages, longest gap {gap * 1e3:.0f} ms")


def test_figure_3_p2p_a_caller_gets_the_latest(lab: Draft, tmp_path: Path) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn1", tmp_path, guid, "p2p") as cn1,
    ):
        assert [one["host"] for one in locate(net["cn3"], tmp_path, guid)["endpoints"]] == [IP1]
        lab.anchor()
        end = time.monotonic() + 20
        while [one["host"] for one in locate(net["cn3"], tmp_path, guid)["endpoints"]] != [IP2]:
            assert time.monotonic() < end
        with talk(lab, "cn3", tmp_path, guid, "p2p") as cn3:
            assert IP2 in net["cn3"].remote_hosts()
            cn3.finish()
        assert IP1 in net["cn1"].remote_hosts(), "the update disturbs no session"
        cn1.finish()


def test_figure_4_central_hides_all_addresses(lab: Draft, tmp_path: Path) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn3", tmp_path, guid, "central") as cn3,
    ):
        assert net["cn3"].remote_hosts() == {SERVER}
        assert net["mn1"].remote_hosts() == {SERVER}
        lab.detach("mr1")
        lab.attach("mr2")
        cn3.more(200)
        assert net["cn3"].remote_hosts() == {SERVER}
        gap = cn3.finish()
        print(f"figure 4: {cn3.sent} messages, longest gap {gap * 1e3:.0f} ms")


@pytest.mark.parametrize("mode", ["combined", "p2p", "auto"])
def test_figure_5_a_hard_move_loses_nothing(lab: Draft, tmp_path: Path, mode: str) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn3", tmp_path, guid, mode) as cn3,
    ):
        cn3.moves_to(IP1)
        lab.detach("mr1")
        lab.attach("mr2")
        cn3.moves_to(IP2)
        gap = cn3.finish()
        print(f"figure 5, {mode}: {cn3.sent} messages, longest gap {gap * 1e3:.0f} ms")


def test_bouncing_between_two_routers(lab: Draft, tmp_path: Path) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn1", tmp_path, guid, "auto") as cn1,
    ):
        here, there = "mr1", "mr2"
        for _ in range(8):
            lab.detach(here)
            lab.attach(there)
            here, there = there, here
            cn1.more(100)
        gap = cn1.finish()
        print(f"bouncing: {cn1.sent} messages, longest gap {gap * 1e3:.0f} ms")


@pytest.mark.parametrize("mode", ["p2p", "central", "auto"])
def test_the_caller_moves_and_then_both_at_once(lab: Draft, tmp_path: Path, mode: str) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn3", tmp_path, guid, mode) as cn3,
    ):
        lab.move_caller()
        cn3.more(200)
        lab.detach("mr1")
        net["cn3"].ip("address", "flush", "dev", "mr3")
        lab.attach("mr2")
        net["cn3"].ip("address", "add", "10.5.0.11/24", "dev", "mr3")
        net["cn3"].ip("route", "replace", "default", "via", "10.5.0.1")
        cn3.more(200)
        if mode != "central":
            cn3.moves_to(IP2)
        gap = cn3.finish()
        print(f"both move, {mode}: {cn3.sent} messages, longest gap {gap * 1e3:.0f} ms")


def test_one_of_two_networks_goes_silent_without_a_word(lab: Draft, tmp_path: Path) -> None:
    net = lab.net
    lab.also("mr2")
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn1", tmp_path, guid, "p2p") as cn1,
    ):
        used = next(host for host in (IP1, IP2) if host in net["cn1"].remote_hosts())
        lab.silence("mr1" if used == IP1 else "mr2")
        cn1.moves_to(IP2 if used == IP1 else IP1)
        # A new caller is not hindered by the flow that leads nowhere.
        with talk(lab, "cn3", tmp_path, guid, "combined") as cn3:
            cn3.finish()
        gap = cn1.finish()
        print(f"silent network: {cn1.sent} messages, longest gap {gap * 1e3:.0f} ms")


def test_direct_sessions_do_not_miss_the_server(lab: Draft, tmp_path: Path) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn1", tmp_path, guid, "auto") as cn1,
    ):
        cn1.moves_to(IP1)
        net["core"].ip("link", "set", "server", "down")
        cn1.more(500)
        lab.detach("mr1")
        lab.attach("mr2")
        # Nobody can tell CN1 where MN1 is now, but MN1 itself: it dials.
        cn1.more(200)
        gap = cn1.finish()
        print(f"without the server: {cn1.sent} messages, longest gap {gap * 1e3:.0f} ms")


@pytest.mark.parametrize("mode", ["auto", "combined"])
def test_only_the_relay_serves_where_the_direct_path_is_filtered(
    lab: Draft, tmp_path: Path, mode: str
) -> None:
    net = lab.net
    lab.filter("10.4.0.0/24")
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn3", tmp_path, guid, mode) as cn3,
    ):
        cn3.more(200)
        assert net["cn3"].remote_hosts() == {SERVER}
        cn3.finish()


def test_without_any_network_for_a_while(lab: Draft, tmp_path: Path) -> None:
    net = lab.net
    with (
        relay(net["server"], tmp_path),
        echo(net["mn1"], tmp_path) as guid,
        talk(lab, "cn1", tmp_path, guid, "combined") as cn1,
    ):
        lab.detach("mr1")
        cn1.program.until("no path", cn1.program.errors)
        time.sleep(5)  # What is tested is that time passes.
        lab.attach("mr2")
        cn1.moves_to(IP2)
        cn1.finish()
