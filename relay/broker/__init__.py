"""Service requests: what each leads to, and the one response that it ends in."""

from relay.broker.broker import Broker, BrokerLimits, PlaneMaker

__all__ = ["Broker", "BrokerLimits", "PlaneMaker"]
