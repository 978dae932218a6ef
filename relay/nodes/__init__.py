"""Several processes of one machine as one relay: one port, one key, one operator, all its cores."""

from relay.nodes.division import Assignment, count_of, names_of
from relay.nodes.node import serve_node
from relay.nodes.supervisor import Program, Supervisor

__all__ = ["Assignment", "Program", "Supervisor", "count_of", "names_of", "serve_node"]
