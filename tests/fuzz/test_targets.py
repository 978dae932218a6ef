"""Every target takes its corpus, what is like it, and what is like nothing.

A fuzzer that is guided looks further (`make fuzz`); what it has found is in the corpus.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.control import close_loop
from tests.fuzz.relay_in_memory import close_relay
from tests.fuzz.targets import TARGETS, corpus_of
from tests.support.scale import of

TARGET = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True, scope="module")
def _ended() -> Iterator[None]:
    yield
    close_relay()
    close_loop()


@TARGET
def test_the_corpus(target: str) -> None:
    inputs = corpus_of(target)
    assert inputs
    for data in inputs:
        TARGETS[target](data)


@st.composite
def mutated(draw: st.DrawFn, inputs: list[bytes]) -> bytes:
    """An input of the corpus, a little changed."""
    data = bytearray(draw(st.sampled_from(inputs)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["set", "insert", "delete", "repeat"])):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(max_size=5))
            case "delete":
                del data[at : at + draw(st.integers(1, 5))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 60))]
    return bytes(data)


@TARGET
def test_what_is_like_the_corpus_and_what_is_not(target: str) -> None:
    function = TARGETS[target]

    @settings(max_examples=of(40, 3000), suppress_health_check=list(HealthCheck))
    @given(mutated(corpus_of(target)) | st.binary(max_size=300))
    def look(data: bytes) -> None:
        function(data)

    look()
