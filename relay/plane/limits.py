"""What the operator allows planes, and legs that are led to planes at other nodes."""

from dataclasses import dataclass

from relay.backplane import tag_of
from relay.config import RelayConfig
from relay.limits import PaceRates, PlaneBudget, plane_budget

__all__ = ["DetourLimits", "PlaneLimits", "pace_of"]


@dataclass(frozen=True, slots=True)
class PlaneLimits:
    """What the operator allows planes; times are seconds."""

    lifetime: float
    """From the making of a plane to the coming of its second leg."""
    idle: float
    """Without any byte."""
    budget: PlaneBudget
    pace: PaceRates
    tag: str = ""
    """What every ticket begins with: hexadecimal, and an even number of digits."""

    @classmethod
    def of(cls, config: RelayConfig, files: int) -> "PlaneLimits":
        """Return those of a relay that may open so many files."""
        return cls(
            config.ticket_lifetime,
            config.plane_idle,
            plane_budget(config.max_pending_planes, config.max_planes, files),
            pace_of(config),
            tag_of(config.cluster.node) if config.cluster is not None else "",
        )


@dataclass(frozen=True, slots=True)
class DetourLimits:
    """What the operator allows legs that are led to another node; times are seconds."""

    most: int
    connecting: float
    """Until the other node has answered."""
    idle: float
    """Without any byte."""

    @classmethod
    def of(cls, config: RelayConfig, files: int) -> "DetourLimits":
        """Return those of a relay that may open so many files: each leg takes two."""
        most = max(1, min(config.max_planes, files // 8))
        return cls(most, config.handshake_timeout, config.plane_idle)


def pace_of(config: RelayConfig) -> PaceRates:
    """Return how fast bytes may move."""
    return PaceRates(config.bytes_per_second_per_peer, config.bytes_per_second_in_all)
