"""`/metrics` of all processes as those of one relay: each sample says of which node it is."""

import asyncio
from collections.abc import Mapping

from relay.log import log
from relay.nodes.request import NO_ANSWER, asked

__all__ = ["gathered", "merged"]

_PATIENCE = 5.0
"""Seconds for a process to say it: who scrapes waits for 10 s by default, and one that hangs keeps
the others' from nobody."""
_LONGEST = 1 << 24


async def gathered(nodes: Mapping[str, str], authorization: str) -> str:
    """Return what all processes say that are at these addresses, by name."""
    found = await asyncio.gather(
        *(_fetched(url, authorization) for url in nodes.values()), return_exceptions=True
    )
    texts = {}
    for name, one in zip(nodes, found, strict=True):
        if isinstance(one, BaseException):
            if not isinstance(one, NO_ANSWER):
                raise one
            log.warning("a node gave no metrics", process=name, reason=str(one))
        else:
            texts[name] = one
    return merged(texts)


async def _fetched(url: str, authorization: str) -> str:
    async with (
        asyncio.timeout(_PATIENCE),
        asked(url, "/metrics", authorization, _LONGEST) as (status, reader),
    ):
        if status != 200:
            raise ValueError(f"it says {status}")
        return (await reader.read(-1)).decode()


def merged(texts: Mapping[str, str]) -> str:
    """Join what processes expose in the text format of Prometheus; each name is told about once."""
    about: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for node, text in texts.items():
        family, told = "", set(about)
        for line in text.splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                if family not in told:
                    about.setdefault(family, []).append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, node))
    lines = (line for family in about for line in (*about[family], *samples.get(family, ())))
    return "".join(f"{line}\n" for line in lines)


def _labelled(line: str, node: str) -> str:
    name, space, rest = line.partition(" ")
    bare, brace, labels = name.partition("{")
    if not brace:
        return f'{name}{{node="{node}"}}{space}{rest}'
    return f'{bare}{{node="{node}",{labels}{space}{rest}'
