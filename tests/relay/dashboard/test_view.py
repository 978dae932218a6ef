"""What the dashboard shows: looked at by hand, without a page."""

import pytest

from relay.backplane import NodeNow
from relay.dashboard.view import MOST, Change, Shows, View
from relay.limits import PaceRates, plane_budget
from relay.metrics import Metrics, RequestTold
from relay.plane import PlaneLimits, Planes
from relay.presence import Registry
from tests.relay.dashboard.crowd import HOSTILE, come, crowd, guid_of


class Relay:
    """What a view looks at."""

    def __init__(self, *, with_addresses: bool = False) -> None:
        self.registry = Registry(grace=30.0, remember=100.0, max_offline=10)
        self.metrics = Metrics()
        limits = PlaneLimits(30.0, 120.0, plane_budget(64, 64, 4096), PaceRates(None, None))
        planes = Planes((), limits, self.metrics, lambda: 0.0, lambda work: work.close())
        self.held = self.registry, planes, self.metrics
        self.nodes: list[NodeNow] = []
        self.view = View(self.held, Shows(b"s" * 32, with_addresses), lambda: self.nodes)
        self.view.begin()
        self.steps = 0

    def look(self) -> Change:
        for _ in self.view.looking(1.0):
            self.steps += 1
        return self.view.change


ONE, OTHER = guid_of(1), guid_of(2)


def kinds(change: Change) -> list[str]:
    return [str(one["kind"]) for one in change.news]


def test_the_first_look_has_no_news_and_the_next_ones_have_what_changed() -> None:
    relay = Relay()
    come(relay.registry, ONE, "203.0.113.1", "chat")
    first = relay.look()
    assert first.is_first
    assert kinds(first) == []
    (row,) = relay.view.rows
    assert (row["id"], row["services"], row["moves"]) == (ONE[:12], ["chat"], 0)
    assert relay.look().rows == []
    other = come(relay.registry, OTHER, "203.0.113.2")
    assert kinds(relay.look()) == ["came"]
    come(relay.registry, ONE, "198.51.100.7", "chat")
    moved = relay.look()
    assert kinds(moved) == ["moved"]
    assert moved.news[0]["was"] == row["networks"] != moved.news[0]["networks"]
    assert [one["moves"] for one in moved.rows] == [1]
    come(relay.registry, ONE, "198.51.100.7", "chat", "files")
    offers = relay.look()
    assert kinds(offers) == []
    assert [one["services"] for one in offers.rows] == [["chat", "files"]]
    relay.registry.remove(other, 2.0, closed=True)
    left = relay.look()
    assert (kinds(left), left.gone) == (["left"], [OTHER[:12]])
    assert left.now["present"] == 1


@pytest.mark.parametrize("with_addresses", [False, True])
def test_addresses_are_shown_only_where_the_operator_chose_so(with_addresses: bool) -> None:
    relay = Relay(with_addresses=with_addresses)
    come(relay.registry, ONE, "203.0.113.77", "chat")
    come(relay.registry, OTHER, "2001:db8:1:2::77")
    relay.look()
    assert ("203.0.113.77" in str(relay.view.rows)) is with_addresses
    assert ("2001:db8" in str(relay.view.rows)) is with_addresses
    if not with_addresses:
        # Of one network the same, with this start's secret; which one nobody can try out.
        come(relay.registry, guid_of(3), "2001:db8:1:2::99")
        relay.look()
        *_, one, another = (row["networks"] for row in relay.view.rows)
        assert one == another
        assert one[0].startswith("network ")
        later = View(relay.held, Shows(b"t" * 32))
        for _ in later.looking(1.0):
            pass
        assert later.rows[-1]["networks"] != another


def test_text_of_strangers_is_cut_and_cannot_act() -> None:
    relay = Relay()
    come(relay.registry, ONE, "203.0.113.1", "\x1b[31m\u202e" + "x" * 60, *map(str, range(20)))
    relay.look()
    (row,) = relay.view.rows
    assert len(row["services"]) == 8
    assert row["more"] == 13
    come(relay.registry, ONE, "203.0.113.1", "\x1b[31m\u202e", HOSTILE[:64])
    relay.look()
    assert r"\x1b[31m\u202e" in relay.view.rows[0]["services"]


def test_what_was_asked_is_told_while_somebody_looks_and_is_bounded() -> None:
    relay = Relay()
    relay.look()
    asked = relay.metrics.asked
    assert asked is not None
    for _ in range(500):
        asked.append(RequestTold(ONE, OTHER, "chat", "p2p", "ok"))
    change = relay.look()
    assert len(change.news) == 20
    assert change.more_news == 60
    assert change.news[0]["mode"] == "p2p"
    relay.view.end()
    assert relay.metrics.asked is None
    assert relay.view.rows == []


def test_so_many_are_shown_and_the_others_counted() -> None:
    relay = Relay()
    list(crowd(relay.registry, MOST + 10))
    assert relay.look().now["present"] == MOST + 10
    assert relay.view.change.now["shown"] == len(relay.view.rows) == MOST
    assert relay.steps >= MOST // 100, "others have their turns meanwhile"


def test_gauges_and_limits_are_as_they_are_counted() -> None:
    relay = Relay()
    relay.metrics.limited["plane"] += 2
    relay.metrics.answers.add("combined", 0.02)
    relay.metrics.gauges["connections_open"] = lambda: {"all": 3}
    now = relay.look().now
    assert now["limited"] == {"plane": 2}
    assert now["answers"] == (1, 0.02)
    assert now["gauges"]["connections_open"] == {"all": 3}


def test_the_nodes_of_a_cluster_are_shown_and_which_came_and_left() -> None:
    relay = Relay()
    assert relay.look().now["nodes"] == []
    here, there = NodeNow("a", 3, None, True), NodeNow("b", 5, 0.5, False)
    relay.nodes = [here, there]
    came = relay.look()
    assert came.now["nodes"] == [
        {"name": "a", "peers": 3, "heard": None, "in": True},
        {"name": "b", "peers": 5, "heard": 0.5, "in": False},
    ]
    assert kinds(came) == ["node came", "node came"]
    relay.nodes = [here]
    left = relay.look()
    assert left.news == [{"kind": "node left", "node": "b"}]
