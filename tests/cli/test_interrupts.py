"""Ctrl-C, SIGTERM and the live display, on a real terminal (a pty) and without one."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.cli.conftest import ENDLESS, SMALL, Swarmd, daemons_below, swarmd_process
from tests.cli.terminal import Terminal
from tests.daemon import until

QUESTION = "Cancel the workflow, detach and let it go on, or go on watching? [c/d/g]"


@pytest.fixture(autouse=True)
def _cores_are_given_back(daemon):
    """What a test leaves behind, because it failed or means to, must not hold the cores that the next one needs."""
    yield
    for swarm in swarmd_process("status", "--json", **daemon.environment).json["swarms"]:
        if swarm["outcome"] == "SWARM_OUTCOME_UNFINISHED":
            swarmd_process("delete", swarm["swarmId"], "--force", **daemon.environment)


def state(swarmd: Swarmd, swarm_id: str) -> dict[str, Any]:
    return dict(swarmd("status", swarm_id, "--json").json)


def test_the_live_display_and_the_summary(swarmd: Swarmd, workflow):
    with Terminal("run", workflow(SMALL.replace("echo hello {index}", "sleep 0.5"))) as terminal:
        terminal.until("0:00")
        terminal.until("first")
        assert terminal.end() == 0
        assert "━" in terminal.text
        assert "small: all 4 tasks done in" in terminal.text
        assert "\x1b[32m" in terminal.raw or "\x1b[1;32m" in terminal.raw


def test_no_color_is_honoured(swarmd: Swarmd, workflow, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with Terminal("run", workflow(SMALL)) as terminal:
        assert terminal.end() == 0
        assert "\x1b[32m" not in terminal.raw
        assert "\x1b[1;32m" not in terminal.raw


def test_cancelling_after_a_question(swarmd: Swarmd, workflow):
    with Terminal("run", workflow(ENDLESS), "--swarm-id", "to-cancel") as terminal:
        terminal.until("endless  to-cancel")
        terminal.interrupt()
        terminal.until(QUESTION)
        terminal.press("c")
        assert terminal.end() == 130
        assert "endless: cancelled after" in terminal.text
    counts = state(swarmd, "to-cancel")["taskCounts"]
    assert (counts["cancelled"], counts["active"]) == (3, 0)


def test_a_second_signal_at_the_question_cancels(swarmd: Swarmd, workflow):
    with Terminal("run", workflow(ENDLESS)) as terminal:
        terminal.until("endless  endless-")
        terminal.interrupt()
        terminal.until(QUESTION)
        terminal.interrupt()
        assert terminal.end() == 130
        assert "endless: cancelled after" in terminal.text


def test_going_on_and_then_detaching(swarmd: Swarmd, workflow):
    with Terminal("run", workflow(ENDLESS), "--swarm-id", "to-leave") as terminal:
        terminal.until("endless  to-leave")
        terminal.interrupt()
        terminal.until(QUESTION)
        terminal.press("xg")
        terminal.until("endless  to-leave")
        terminal.interrupt()
        terminal.until(QUESTION)
        terminal.press("d")
        assert terminal.end() == 1
        assert "swarmd watch to-leave" in terminal.text
    assert state(swarmd, "to-leave")["taskCounts"]["active"] == 3
    assert swarmd("delete", "to-leave", "--force").code == 0


def test_a_daemon_of_ones_own_lives_on_after_detaching(home, workflow):
    with Terminal("run", workflow(ENDLESS), "--swarm-id", "alone") as terminal:
        terminal.until("endless  alone")
        terminal.interrupt()
        terminal.until(QUESTION)
        terminal.press("d")
        assert terminal.end() == 1
        assert "the daemon was started for this run" in terminal.text
    assert swarmd_process("status", "alone", "--json").json["taskCounts"]["active"] == 3
    assert swarmd_process("cancel", "alone", "--all").code == 0
    until(lambda: not daemons_below(home), "the idle daemon's end", 30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_a_signal_cancels(swarmd: Swarmd, workflow, number):
    swarm_id = f"signal-{number.name.lower()}"
    arguments = [sys.executable, "-m", "swarmd", "run", str(workflow(ENDLESS)), "--swarm-id", swarm_id]
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as process:
        until(lambda: swarmd("status", swarm_id).code == 0 and _runs(swarmd, swarm_id), "the tasks to run")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert b"endless: cancelled after" in out
    assert state(swarmd, swarm_id)["taskCounts"]["cancelled"] == 3


def _runs(swarmd: Swarmd, swarm_id: str) -> bool:
    return bool(state(swarmd, swarm_id)["taskCounts"]["running"] == 3)


def test_cancelling_everything_asks_first_on_a_terminal(swarmd: Swarmd, workflow):
    assert swarmd("run", workflow(SMALL), "--swarm-id", "asked").code == 0
    with Terminal("cancel", "asked", "--all") as terminal:
        terminal.until("Cancel every task of asked?")
        terminal.press("n\n")
        assert terminal.end() == 130
    with Terminal("cancel", "asked", "--all", "--yes") as terminal:
        assert terminal.end() == 0
        assert "0 tasks cancelled; 4 had ended already" in terminal.text
