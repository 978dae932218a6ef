"""How a session gets its paths, the first one and every next one."""

from peers.roaming.candidates import Candidates
from peers.roaming.driver import Means
from peers.roaming.following import Planes
from peers.roaming.incoming import Incoming
from peers.roaming.local import Local
from peers.roaming.lookup import Lookup
from peers.roaming.outgoing import Outgoing
from peers.roaming.probes import Probes
from peers.roaming.rounds import Rounds
from peers.roaming.sessions import Sessions
from peers.roaming.signs import Signs
from peers.roaming.standbys import Standbys
from peers.roaming.survey import Surveyed, survey
from peers.roaming.ways import Ways

__all__ = [
    "Candidates",
    "Incoming",
    "Local",
    "Lookup",
    "Means",
    "Outgoing",
    "Planes",
    "Probes",
    "Rounds",
    "Sessions",
    "Signs",
    "Standbys",
    "Surveyed",
    "Ways",
    "survey",
]
