"""The state folder: whose it is, and what is said of one that others may look into."""

from pathlib import Path

import pytest

from relay.config import ConfigError
from relay.store import state_folder


def test_a_new_folder_is_its_owner_s(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with state_folder(str(tmp_path / "a" / "state")) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not caplog.records


def test_others_may_not_write_and_better_not_look(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    with state_folder(str(tmp_path)):
        (record,) = caplog.records
        assert "others may look into the state folder" in record.getMessage()
        assert "chmod 700" in record.getMessage()
    tmp_path.chmod(0o770)
    with (
        pytest.raises(ConfigError, match="others may write into"),
        state_folder(str(tmp_path)),
    ):
        pass
