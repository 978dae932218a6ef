"""Metrics of several processes as those of one relay."""

from relay.nodes.metrics import merged

_ONE = """# HELP peers_now Peers.
# TYPE peers_now gauge
peers_now{state="online"} 3.0
# HELP frames_total Frames, {in} braces.
# TYPE frames_total counter
frames_total 7.0
"""


def test_each_sample_names_its_node_and_each_name_is_told_about_once() -> None:
    assert merged({"node-1": _ONE, "node-2": _ONE.replace("7.0", "8.0")}) == (
        "# HELP peers_now Peers.\n"
        "# TYPE peers_now gauge\n"
        'peers_now{node="node-1",state="online"} 3.0\n'
        'peers_now{node="node-2",state="online"} 3.0\n'
        "# HELP frames_total Frames, {in} braces.\n"
        "# TYPE frames_total counter\n"
        'frames_total{node="node-1"} 7.0\n'
        'frames_total{node="node-2"} 8.0\n'
    )


def test_none_is_nothing() -> None:
    assert merged({}) == ""
