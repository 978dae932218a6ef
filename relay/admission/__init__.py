"""Who may register: bans, a list, invitations, or the program's own word; and how long it holds."""

from relay.admission.admission import Admission, AdmissionRules
from relay.admission.bans import Ban, Bans, subject_of
from relay.admission.book import Book, Order
from relay.admission.grants import PATIENCE, Admit, Applicant, Grant, Outcome, Refusal
from relay.admission.invitations import Operators
from relay.admission.rows import InvitationKept, Member
from relay.admission.shared import SharedBook

__all__ = [
    "Admission",
    "AdmissionRules",
    "Admit",
    "Applicant",
    "Ban",
    "Bans",
    "Book",
    "Grant",
    "InvitationKept",
    "Member",
    "Operators",
    "Order",
    "Outcome",
    "PATIENCE",
    "Refusal",
    "SharedBook",
    "subject_of",
]
