"""Service requests: what each leads to, and the one response that it ends in."""

from relay.broker.broker import Broker, BrokerLimits, Leg, PlaneMaker
from relay.broker.reply import Elsewhere

__all__ = ["Broker", "BrokerLimits", "Elsewhere", "Leg", "PlaneMaker"]
