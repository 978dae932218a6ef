"""How a session gets its paths, the first one and every next one."""

from peers.roaming.candidates import CandidateFinder
from peers.roaming.incoming import Answering
from peers.roaming.lookup import Asking
from peers.roaming.outgoing import Opening, Wanted
from peers.roaming.sessions import Roaming
from peers.roaming.survey import Surveyed, age_of, survey
from peers.roaming.ways import Dialer

__all__ = [
    "Answering",
    "Asking",
    "CandidateFinder",
    "Dialer",
    "Opening",
    "Roaming",
    "Surveyed",
    "Wanted",
    "age_of",
    "survey",
]
