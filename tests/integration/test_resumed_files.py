"""`peer send` and `peer receive` are killed, each of them once: the next `peer send` goes on."""

import hashlib
import os
import signal
from pathlib import Path

import pytest

from tests.support.processes import fact, peer, relay

MIB = 1 << 20


@pytest.mark.nightly
def test_a_file_goes_on_where_a_kill_of_either_side_has_stopped_it(tmp_path: Path) -> None:
    content = os.urandom(16 * MIB)
    (tmp_path / "film").write_bytes(content)
    folder = tmp_path / "in"
    # Slow enough that each is killed in the middle, whatever else the machine does.
    (tmp_path / "relay.toml").write_text(f"bytes_per_second_per_peer = {4 * MIB}\nstate = ''\n")
    with relay(tmp_path, "--config", str(tmp_path / "relay.toml")) as (url, _):
        here = ("--relay", url, "--key", str(tmp_path / "receiver.key"))
        there = ("--relay", url, "--key", str(tmp_path / "sender.key"))
        receive = (*here, "receive", str(folder), "--json", "--progress", "0.05")
        with peer(*receive) as receiver:
            guid = fact(receiver)["guid"]
            send = (*there, "send", guid, str(tmp_path / "film"), "--mode", "central", "--json")
            with peer(*send) as sender:
                while fact(receiver)["bytes"] < 4 * MIB:
                    pass
                sender.send_signal(signal.SIGKILL)
            with peer(*send) as sender:
                # The receiver hears of the sender's end only now, by the next one.
                events = []
                while (told := fact(receiver)).get("bytes", 0) < 8 * MIB:
                    events.append(told["event"])
                assert "failed" in events
                receiver.send_signal(signal.SIGKILL)
                receiver.wait()
                with peer(*receive, "--once") as receiver:
                    fact(receiver)
                    assert sender.wait() == 11
                    with peer(*send) as sender:
                        sent = fact(sender)
                        while (told := fact(receiver))["event"] == "progress":
                            pass
    assert (told["event"], told["resumed"]) == ("received", sent["resumed"])
    assert told["resumed"] >= 7 * MIB
    assert sent["sha256"] == told["sha256"] == hashlib.sha256(content).hexdigest()
    assert os.listdir(folder) == ["film"]
    assert (folder / "film").read_bytes() == content
