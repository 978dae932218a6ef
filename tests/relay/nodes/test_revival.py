"""When a nats-server that keeps nothing is started anew."""

from relay.nodes.revival import Revival


def test_it_is_started_at_once_and_then_with_pauses_that_grow() -> None:
    revival, now, pauses = Revival(), 100.0, []
    for _ in range(10):
        before = now
        while not revival.may_begin(now):
            now += 1
        pauses.append(now - before)
        revival.begun(now)
    assert pauses == [0, 5, 10, 20, 40, 80, 160, 320, 320, 320]
    # After an hour it is as at first.
    now += 3600
    revival.begun(now)
    assert not revival.may_begin(now + 4)
    assert revival.may_begin(now + 5)
