"""Each kind of fault under numbered traffic in every mode: nothing is lost, doubled, reordered."""

from pathlib import Path

import pytest

from tests.cluster.outages import FAULTS, measure, table


@pytest.mark.nightly
@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_lost_whatever_fails(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outages, count, wrong = await measure(tmp_path, fault)
    with capsys.disabled():
        print(f"\n{table({fault: (outages, count, wrong)})}")
    assert not wrong
    assert count > 1000
    assert all(one.requests > 0 for one in outages), "requests were answered"
