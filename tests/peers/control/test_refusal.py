"""Which refusal is final in which phase: every code by every phase, written out a second time."""

from itertools import product

import pytest

from peers.control.refusal import (
    FINAL,
    FINAL_AT_FIRST,
    LONGEST_RETRY,
    Judgement,
    Phase,
    StaleRecord,
    judge,
    refusal,
    unproven,
)
from protocol.errors import (
    Code,
    IdentityError,
    ProtocolViolation,
    RelayUnavailable,
    RoamRelayError,
    Superseded,
    UpdateRefused,
    WrongIdentity,
)
from protocol.messages import Error

# "first" ends a registration that has never worked; "ever" every one; all others none.
EXPECTED = """
                      unproven  handshake  registered
superseded            -         ever       ever
not_admitted          -         ever       ever
bad_message           -         first      -
message_too_large     -         first      -
unexpected_message    -         first      -
version_unsupported   -         first      -
bad_guid              -         first      -
bad_signature         -         first      -
"""


def expected(code: Code | None, phase: Phase) -> str:
    rows = [line.split() for line in EXPECTED.strip().splitlines()]
    table = {name: dict(zip(rows[0], words, strict=True)) for name, *words in rows[1:]}
    return table.get(code.value, {}).get(phase.name.lower(), "-") if code else "-"


@pytest.mark.parametrize("kept", [False, True], ids=["first", "kept"])
@pytest.mark.parametrize(("code", "phase"), list(product([None, *Code], Phase)))
def test_every_code_in_every_phase(code: Code | None, phase: Phase, kept: bool) -> None:
    ends = expected(code, phase) in (("ever",) if kept else ("ever", "first"))
    for error in (RelayUnavailable("no", code=code), RoamRelayError("no", code=code)):
        assert judge(error, phase, kept=kept) == Judgement(final=ends)


def test_nothing_ends_a_kept_registration_that_does_not_end_a_new_one() -> None:
    assert all(FINAL[phase] <= FINAL_AT_FIRST[phase] for phase in Phase)
    assert FINAL[Phase.UNPROVEN] == FINAL_AT_FIRST[Phase.UNPROVEN] == frozenset()


@pytest.mark.parametrize("code", [*Code, None])
@pytest.mark.parametrize("phase", Phase)
def test_who_is_told_when_to_come_back_does(code: Code | None, phase: Phase) -> None:
    for asked, waits in ((7.0, 7.0), (1e9, LONGEST_RETRY[phase]), (-1.0, 0.0), (0.0, 0.0)):
        error = RelayUnavailable("not now", code=code, retry_after=asked)
        judged = judge(error, phase, kept=True)
        if code is Code.SUPERSEDED and phase is not Phase.UNPROVEN:
            assert judged == Judgement(final=True)
        else:
            assert judged == Judgement(retry_after=waits)
    assert judge(RelayUnavailable("", retry_after=float("nan")), phase, kept=True).retry_after == 0


@pytest.mark.parametrize("phase", Phase)
def test_another_relay_ends_no_registration_that_has_worked(phase: Phase) -> None:
    other = WrongIdentity("a", "b", "the relay")
    assert not judge(other, phase, kept=True).final
    assert judge(other, phase, kept=False).final


@pytest.mark.parametrize("kept", [False, True])
def test_a_challenge_that_proves_nothing_ends_nothing(kept: bool) -> None:
    for error in (IdentityError("not a GUID"), ProtocolViolation("no", code=Code.BAD_SIGNATURE)):
        assert not judge(error, Phase.UNPROVEN, kept=kept).final


@pytest.mark.parametrize("code", [*Code, None])
def test_a_stranger_has_no_code_that_a_program_gives_up_for(code: Code | None) -> None:
    said = RelayUnavailable("a stranger's word", code=code)
    told = unproven(said)
    if code in (Code.SUPERSEDED, Code.NOT_ADMITTED):
        assert (type(told), told.code) == (RelayUnavailable, None)
        assert "a stranger's word" in told.reason
    else:
        assert told is said


def test_what_a_relay_says_becomes_an_exception_of_its_own() -> None:
    superseded = refusal(Error(Code.SUPERSEDED, "another"))
    assert type(superseded) is Superseded
    assert isinstance(superseded, RelayUnavailable | UpdateRefused)
    assert (superseded.code, superseded.reason) == (Code.SUPERSEDED, "another")
    stale = refusal(Error(Code.STALE_SEQUENCE, "late", seq=9))
    assert isinstance(stale, StaleRecord)
    assert (stale.known, stale.code) == (9, Code.STALE_SEQUENCE)
    full = refusal(Error(Code.LIMIT_EXCEEDED, "full", retry_after=3.0))
    assert type(full) is RelayUnavailable
    assert (full.code, full.retry_after) == (Code.LIMIT_EXCEEDED, 3.0)
