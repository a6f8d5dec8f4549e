"""The lines that a real daemon writes about calls, at debug level and otherwise."""

import json
from typing import Any

import pytest

from tests.daemon import DaemonProcess, running, until
from tests.e2e.grpcurl import ask, call

HAS_WORK = "swarm.v1.SchedulerService/HasWork"

pytestmark = pytest.mark.e2e


def lines(daemon: DaemonProcess, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, daemon.log.splitlines()) if line["event"] == event]


def use(daemon: DaemonProcess, *options: str) -> None:
    """A swarm, a call about it that succeeds, and one that fails."""
    call(daemon, "swarm.v1.SwarmService/CreateSwarm", {"swarm": {"swarm_id": "s", "gateway": "pull"}}, options=options)
    call(daemon, HAS_WORK, {"swarm_id": "s"}, options=options)
    ask(daemon, HAS_WORK, data=[{"swarm_id": "nobody"}], options=options)


def test_at_debug_level_each_call_has_a_line():
    with running("--log-level", "debug", "--in-memory") as daemon:
        use(daemon)
        until(lambda: len(lines(daemon, "call")) >= 3, "the lines of three calls")
        good, bad = (line for line in lines(daemon, "call") if line["rpc"] == HAS_WORK)
    assert (good["code"], good["swarm"], good["peer"], good["received"], good["sent"]) == ("OK", "s", "unix", 1, 1)
    assert good["received_bytes"] == 3
    assert 0 < good["seconds"] < 60
    assert (bad["code"], bad["reason"], bad["sent"]) == ("NOT_FOUND", "UNKNOWN_SWARM", 0)
    assert "swarm" not in bad, "nobody's name is taken for a swarm's"


def test_at_info_level_calls_have_none():
    with running("--in-memory") as daemon:
        use(daemon)
        assert daemon.stop() == 0
        assert lines(daemon, "ready")
        assert lines(daemon, "call") == []


def test_no_token_is_in_the_log_whoever_sends_one():
    with running("--log-level", "debug", "--listen", "127.0.0.1:0", "--in-memory") as daemon:
        token = (daemon.home / "state" / "swarmd" / "token").read_text().strip()
        use(daemon, "-H", f"authorization: Bearer {token}")
        for wrong in (f"Bearer {token[:-1]}x", token, f"Basic {token}"):
            ask(daemon, HAS_WORK, data=[{}], options=["-H", f"authorization: {wrong}"])
        until(lambda: len(lines(daemon, "call")) >= 6, "the lines of six calls")
        refused = [line["reason"] for line in lines(daemon, "call") if line["code"] == "UNAUTHENTICATED"]
        assert daemon.stop() == 0
        log = daemon.log
    assert len(refused) >= 3
    assert set(refused) == {"WRONG_TOKEN"}
    assert token not in log
    assert token[:-1] not in log
