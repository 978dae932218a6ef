"""The router of the default route, out of what Linux shows."""

from pathlib import Path

from peers.gateway.router import default_router

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def test_the_route_with_the_least_metric_counts(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(
        HEAD
        + "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        + "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        + "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert default_router(routes) == "192.0.2.1"


def test_without_one_there_is_none(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    assert default_router(routes) is None
    routes.write_text(HEAD + "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n")
    assert default_router(routes) is None
