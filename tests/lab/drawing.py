"""The topology as text: where MN1 and CN3 are, and where the kernel has connections to."""

from tests.lab.draft import IP1, IP2, NAMES, Draft

__all__ = ["drawing", "in_use"]


def drawing(lab: Draft) -> list[str]:
    """Return the lines of the drawing as it is now."""
    at_1, at_2 = "mr1" in lab.at, "mr2" in lab.at
    here = {True: "━━━ MN1", False: "    ···"}
    first = f" IP1 {IP1}" if at_1 else ""
    second = f" IP2 {IP2}" if at_2 else ""
    if lab.anchored:
        second += " and IP1, led here over MR1"
    tunnel = "║ IP1" if lab.anchored else "│    "
    caller, moved = (" CN3", "   ") if not lab.caller_moved else ("   ·", "CN3")
    return [
        f"   CN1 ───┐            ┌─── MR1 {here[at_1]}{first}",
        f"          │            │     {tunnel}".rstrip(),
        f"  {caller} ───┼─── core ───┼─── MR2 {here[at_2]}{second}",
        "          │            │",
        f"server ───┘            └─── MR3 ─── {moved}",
    ]


def in_use(lab: Draft) -> list[str]:
    """Return who has connections to where: the kernel's word."""
    lines = []
    for name in ("cn1", "cn3"):
        hosts = sorted(lab.net[name].remote_hosts())
        if hosts:
            told = ", ".join(f"{NAMES.get(host, '')} {host}".strip() for host in hosts)
            lines.append(f"{name.upper()} is connected to {told}")
    return lines
