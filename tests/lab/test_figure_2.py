"""Figure 2 with both name servers, and what only it can show."""

from tests.lab.draft import IP1, IP2
from tests.lab.names import MN1, figure_2, names
from tests.lab.programs import Program
from tests.lab.stage import Stage


def test_figure_2_with_bind(on_stage: Stage) -> None:
    """The tour has it with the relay's own zone (test_figures.py)."""
    figure_2(on_stage, "bind")


def test_a_hard_move_is_found_by_name(on_stage: Stage) -> None:
    """MN1 leaves while CN3 cannot hear of it but by the zone: CN3 moves at the same time."""
    lab, net = on_stage.lab, on_stage.net
    with names(on_stage, "zone") as by_name, by_name.listen(), by_name.talk("cn3") as cn3:
        cn3.moving()
        lab.detach("mr1")
        lab.move_caller()
        lab.attach("mr2")
        cn3.moves_to(IP2)
        assert IP2 in net["cn3"].remote_hosts()
        on_stage.finish(cn3, "both move, by name")


def test_a_caller_with_a_cache_does_not_miss_the_server(on_stage: Stage) -> None:
    net = on_stage.net
    with names(on_stage, "bind") as by_name, by_name.listen():
        words = ("tests.lab.two_calls", by_name.config("cn3"), MN1.guid)
        cn3 = Program(net["cn3"], *words)
        try:
            assert IP1 in cn3.until("connected", cn3.out)
            net["core"].ip("link set server down")
            cn3.write("again")
            assert IP1 in cn3.until("connected", cn3.out)
        finally:
            cn3.close()
