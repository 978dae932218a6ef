"""Places for connections, shared by networks."""

from relay.dns.places import Places


def test_who_holds_less_than_others_finds_a_place() -> None:
    places: Places[str] = Places(per_network=4, in_all=6)
    for number in range(4):
        assert places.enter(f"a{number}", "a", number) is None
    for number in range(2):
        assert places.enter(f"b{number}", "b", 10.0) is None
    assert places.enter("c0", "c", 20.0) == "a0", "of those that hold most, the one that is quiet"
    assert places.enter("c1", "c", 20.0) == "a1"
    assert places.enter("c2", "c", 20.0) == "c2", "nobody holds more"
    assert len(places) == 6


def test_what_was_served_is_not_quiet() -> None:
    places: Places[str] = Places(per_network=4, in_all=4)
    for number in range(4):
        places.enter(f"a{number}", "a", number)
    for number in (0, 1, 3):
        places.served(f"a{number}", 10.0 + number)
    assert places.enter("b", "b", 20.0) == "a2"
    assert places.enter("c", "c", 20.0) == "a0"


def test_of_many_networks_with_one_each_the_quietest_goes() -> None:
    places: Places[str] = Places(per_network=4, in_all=3)
    for number in range(3):
        places.enter(str(number), str(number), number)
    assert places.enter("new", "new", 9.0) == "0"
    assert places.enter("more", "new", 9.0) == "more"


def test_a_network_has_a_share_and_gives_places_back() -> None:
    places: Places[str] = Places(per_network=2, in_all=9)
    assert [places.enter(str(number), "a", 0.0) for number in range(3)] == [None, None, "2"]
    places.leave("0")
    places.leave("0")
    places.served("0", 1.0)
    assert (len(places), places.held("a")) == (1, 1)
    assert places.enter("3", "a", 0.0) is None
    places.leave("1")
    places.leave("3")
    assert (len(places), places.held("a")) == (0, 0)
