"""What several nodes tell, as one picture: told and looked at by hand."""

from typing import Any

from relay.dashboard import MOST, MOST_NEWS, MOST_PLANES, Change
from relay.nodes.joined import SILENT, Joined

ONE, OTHER = "node-1", "node-2"
BOTH = (ONE, OTHER)


def now_of(**words: Any) -> dict[str, Any]:
    """Return how one process is."""
    found: dict[str, Any] = {
        "started": 100.0,
        "present": 0,
        "requests": [],
        "messages_in": 0,
        "messages_out": 0,
        "plane_bytes": 0,
        "cpu": 0.0,
        "limited": {},
        "refusals": {},
        "proofs": {},
        "answers": [0, 0.0],
        "gauges": {},
        "lag": 0.0,
        "memory": 10,
        "descriptors": 5,
        "max_descriptors": 100,
        "planes": [],
    }
    return found | words


def row(name: str, *services: str) -> dict[str, Any]:
    return {"id": name, "services": list(services), "networks": [], "moves": 0}


class Look:
    """Two nodes, and who looks at them."""

    def __init__(self) -> None:
        self.joined = Joined(BOTH)
        self.now = 0.0
        self.here = set(BOTH)

    def rows(self, node: str, *rows: dict[str, Any]) -> None:
        self.joined.told(node, "rows", list(rows), self.now)

    def change(self, node: str, *gone: str, news: Any = (), more: int = 0, **words: Any) -> None:
        said = {"gone": list(gone), "news": list(news), "more_news": more, "now": now_of(**words)}
        self.joined.told(node, "change", said, self.now)

    def begin(self, node: str, *rows: dict[str, Any], **words: Any) -> None:
        self.joined.told(node, "start", {}, self.now)
        self.rows(node, *rows)
        self.change(node, **words)

    def look(self) -> Change:
        return self.joined.look(self.now, self.here, {"version": "1", "started": 7.0})

    def states(self) -> dict[str, str]:
        return {one["name"]: str(one["state"]) for one in self.look().now["nodes"]}


def kinds(change: Change) -> list[tuple[str, str]]:
    return [(one["kind"], one["node"]) for one in change.news]


def test_peers_of_all_each_with_its_node() -> None:
    both = Look()
    both.begin(ONE, row("a", "chat"), present=1)
    both.begin(OTHER, row("a", "chat"), row("b"), present=2)
    assert both.joined.are_heard
    change = both.look()
    assert change.is_first
    keys = {"node-1/a": ONE, "node-2/a": OTHER, "node-2/b": OTHER}
    assert {one["key"]: one["node"] for one in both.joined.rows} == keys
    assert (change.now["present"], change.now["shown"], change.now["started"]) == (3, 3, 7.0)
    both.change(OTHER, "a", present=1)
    both.rows(ONE, row("a", "chat"), row("c"))
    change = both.look()
    assert [one["key"] for one in change.rows] == ["node-1/c"], "what has not changed is not told"
    assert change.gone == ["node-2/a"]


def test_who_goes_and_comes_between_two_looks_is_here() -> None:
    both = Look()
    both.begin(ONE, row("a"))
    both.look()
    both.change(ONE, "a")
    both.rows(ONE, row("a", "chat"))
    change = both.look()
    assert ([one["key"] for one in change.rows], change.gone) == (["node-1/a"], [])
    both.rows(ONE, row("b"))
    both.change(ONE, "b")
    change = both.look()
    assert (change.rows, change.gone) == ([], ["node-1/b"])


def test_one_that_begins_anew_tells_all_it_has() -> None:
    both = Look()
    both.begin(ONE, row("a"), row("b"))
    both.look()
    both.begin(ONE, row("b"), row("c"))
    change = both.look()
    assert ([one["key"] for one in change.rows], change.gone) == (["node-1/c"], ["node-1/a"])


def test_counts_are_added_and_grow_though_a_process_begins_anew() -> None:
    both = Look()

    def requests(count: int) -> list[dict[str, Any]]:
        return [{"mode": "p2p", "outcome": "ok", "count": count}]

    both.begin(ONE, requests=requests(5), limited={"work": 2}, answers=[5, 1.0], cpu=1.0)
    both.begin(OTHER, requests=requests(7), refusals={"draining": 1}, lag=0.5)
    now = both.look().now
    assert now["requests"] == requests(12)
    assert (now["limited"], now["refusals"], now["answers"]) == (
        {"work": 2},
        {"draining": 1},
        [5, 1.0],
    )
    assert (now["cpu"], now["lag"], now["memory"], now["max_descriptors"]) == (1.0, 0.5, 20, 200)
    both.joined.ended(ONE)
    after = both.look().now
    assert (after["requests"], after["memory"]) == (requests(12), 10), "counts stay, the rest goes"
    both.begin(ONE, requests=requests(1), started=200.0)
    assert both.look().now["requests"] == requests(13)
    assert both.look().now["counted_anew"] == now["counted_anew"] == 2


def test_one_that_is_heard_late_is_no_burst() -> None:
    both = Look()
    both.begin(ONE)
    before = both.look().now["counted_anew"]
    both.begin(OTHER, messages_in=1_000_000)
    assert both.look().now["counted_anew"] == before + 1, "the page begins its plots anew"


def test_gauges_are_added_where_that_says_something() -> None:
    both = Look()
    gauges = {"peers": {"online": 2}, "certificate_seconds": {"left": 5}}
    both.begin(ONE, gauges=gauges)
    both.begin(OTHER, gauges=gauges)
    found = both.look().now["gauges"]
    assert found["peers"] == {"online": 4}
    assert "certificate_seconds" not in found


def test_one_that_is_silent_or_has_ended_is_said_to_be_so() -> None:
    both = Look()
    both.begin(ONE, row("a"), present=1)
    assert both.states() == {ONE: "serves", OTHER: "silent"}, "never heard"
    both.begin(OTHER)
    assert kinds(both.look()) == [("node heard", OTHER)]
    both.now += SILENT
    both.change(OTHER)
    change = both.look()
    assert kinds(change) == [("node silent", ONE)]
    assert (change.gone, change.now["present"]) == ([], 1), "what it had is shown"
    assert change.now["nodes"][0]["heard"] == SILENT
    both.here.remove(ONE)
    both.joined.ended(ONE)
    change = both.look()
    assert (kinds(change), change.gone) == ([("node left", ONE)], ["node-1/a"])
    assert change.now["present"] == 0
    both.here.add(ONE)
    both.begin(ONE, started=200.0)
    assert kinds(both.look()) == [("node came", ONE)]


def test_what_happens_names_its_node_and_each_has_its_share() -> None:
    both = Look()
    both.begin(ONE)
    both.begin(OTHER)
    both.look()
    many = [{"kind": "came", "who": f"{number}", "networks": []} for number in range(MOST_NEWS)]
    both.change(ONE, news=many, more=3)
    both.change(ONE, news=many)
    both.change(OTHER, news=[{"kind": "left", "who": "b"}, {"kind": "node left", "node": ONE}])
    change = both.look()
    assert len(change.news) == MOST_NEWS
    assert ("left", OTHER) in kinds(change)
    assert ("node left", ONE) not in kinds(change), "each node says that of the others"
    # 3 it left out itself, 20 had no room, and one of the rest had none beside the other's.
    assert change.more_news == 3 + MOST_NEWS + 1


def test_so_many_are_shown_however_many_are_told() -> None:
    both = Look()
    share = MOST // 2
    both.begin(ONE, *(row(str(number)) for number in range(share + 5)))
    planes = [{"there": number, "back": 0} for number in range(MOST_PLANES)]
    both.change(ONE, planes=planes)
    both.begin(OTHER, row("b"), planes=planes)
    now = both.look().now
    assert now["shown"] == share + 1
    assert len(now["planes"]) == MOST_PLANES
    assert [one["node"] for one in now["planes"][:2]] == [ONE, OTHER], "those with most bytes"
