"""The chaos run of a cluster: three peers, each at a node of its own, and numbered traffic between
all of them in every mode, while nodes and NATS die, hang, drain and are cut off, and peers move."""

import signal
from pathlib import Path

from tests.chaos.run import Chaos, Trouble
from tests.chaos.world import Host
from tests.cluster.nodes import Nodes

__all__ = ["ClusterChaos"]

_HANGS = 6.0
"""Seconds for which something hangs or is cut off, at most: the others take it for lost after 3."""
_AWAY = 2.0
"""Seconds until what has died is started again, at most."""


class ClusterChaos(Chaos):
    """One run."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.nodes = Nodes(folder)
        hosts = [Host(11 + number, node.url) for number, node in enumerate(self.nodes.all)]
        super().__init__(seed, self.nodes, hosts)

    def pair(self, talk: int) -> tuple[Host, Host]:
        """Return who calls whom in a talk: each of them calls, and is called."""
        count = len(self.hosts)
        return self.hosts[talk % count], self.hosts[(talk + 1) % count]

    def kinds(self) -> dict[Trouble, int]:
        """Return the kinds of trouble, and how often each is to be."""
        kinds = super().kinds()
        del kinds[self.kill_relay]
        more = {
            self._kill_a_node: 4,
            self._drain_a_node: 2,
            self._a_node_hangs: 3,
            self._cut_a_node_off: 2,
            self._kill_nats: 3,
            self._nats_hangs: 2,
        }
        return kinds | more

    def _some_time(self, most: float) -> float:
        return self.random.random() * most

    async def _kill_a_node(self) -> None:
        node = self.random.choice(self.nodes.all)
        await self.nodes.restart(node, signal.SIGKILL, self._some_time(_AWAY))

    async def _drain_a_node(self) -> None:
        node = self.random.choice(self.nodes.all)
        await self.nodes.restart(node, signal.SIGTERM, 0.0)

    async def _a_node_hangs(self) -> None:
        await self.nodes.hang(self.random.choice(self.nodes.all), self._some_time(_HANGS))

    async def _cut_a_node_off(self) -> None:
        await self.nodes.cut(self.random.choice(self.nodes.all), self._some_time(_HANGS))

    async def _kill_nats(self) -> None:
        await self.nodes.kill_nats(self._some_time(_AWAY))

    async def _nats_hangs(self) -> None:
        await self.nodes.hang_nats(self._some_time(_HANGS))
