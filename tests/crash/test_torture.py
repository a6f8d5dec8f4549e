"""A short torture: some kills at random moments, and nothing lost or run twice. `make torture` goes on for longer."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from swarmd._pb.swarm.v1 import task_pb2
from tests.crash.restarting import ROOT
from tests.crash.torture import Entry, Outcome, Plan, array_of, compare, tortured, upstreams_of
from tests.gateways.slurm.conftest import need_slurm


@pytest.mark.e2e
@pytest.mark.parametrize("gateway", ["local", "pull", "remote"])
def test_a_workflow_under_kills_is_done_once_and_in_order(gateway: str):
    outcome = tortured(Plan(gateway, seed=1, tasks=240, kills=6, seconds=12, sleep=0.1))
    assert list(outcome.problems()) == []
    assert outcome.daemons_killed >= 2
    assert outcome.most_at_once > 2, "they ran side by side"


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_the_same_at_slurm():
    need_slurm()
    outcome = tortured(Plan("slurm", seed=1, tasks=60, kills=6, seconds=12, sleep=0.1))
    assert list(outcome.problems()) == []
    assert outcome.kills >= 2


# -- the comparison sees what it is there for --------------------------------------------------------------------------

TASKS = 40


def good_record() -> list[Entry]:
    """Every task done, one after the other; the seventh ones in their second attempt."""
    entries: list[Entry] = []
    for task_id in range(1, TASKS + 1):
        for attempt, event in enumerate(["failed", "done"] if task_id % 7 == 0 else ["done"], 1):
            entries += [Entry(task_id, attempt, "start", 0), Entry(task_id, attempt, event, 0)]
    return in_order(entries)


def in_order(entries: list[Entry]) -> list[Entry]:
    return [Entry(entry.task_id, entry.attempt, entry.event, place) for place, entry in enumerate(entries)]


def compared(entries: list[Entry]) -> Outcome:
    outcome, tasks = Outcome(tasks=TASKS), {}
    for task_id in range(1, TASKS + 1):
        second = task_id % 7 == 0
        done = task_pb2.TASK_STATUS_DONE
        tasks[task_id] = task_pb2.Task(task_id=task_id, status=done, attempt=1 + second, failed_attempts=int(second))
    compare(in_order(entries), tasks, outcome)
    return outcome


def without_the_end_of(task_id: int, entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.task_id != task_id or entry.event == "start"]


def one_first(task_id: int, entries: list[Entry]) -> list[Entry]:
    mine = [entry for entry in entries if entry.task_id == task_id]
    return [*mine, *(entry for entry in entries if entry.task_id != task_id)]


def all_at_once(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.attempt, entry.event != "start"))


def test_a_good_record_is_good():
    assert list(compared(good_record()).problems()) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda good: without_the_end_of(5, good), "lost"),
        (lambda good: [*good, Entry(5, 1, "start", 0), Entry(5, 1, "done", 0)], "run_twice"),
        (lambda good: [*good, Entry(5, 2, "start", 0), Entry(5, 2, "done", 0)], "run_twice"),
        (lambda good: [*good, Entry(5, 2, "start", 0), Entry(5, 2, "failed", 0)], "broken"),
        (all_at_once, "broken"),
        (lambda good: one_first(39, good), "broken"),
    ],
    ids=["no end", "same attempt again", "two attempts done", "a failure unheard of", "limits", "dependencies"],
)
def test_a_bad_record_is_found_out(change: Callable[[list[Entry]], list[Entry]], what: str):
    outcome = compared(change(good_record()))
    assert getattr(outcome, what)
    assert not outcome.is_good


def test_the_workflow_has_what_it_is_to_test():
    assert upstreams_of(39)
    assert {array_of(task_id) for task_id in range(1, TASKS + 1)} == {1, 2, 3, 4}


# -- the script --------------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_the_script_sums_up_in_its_last_line():
    script = [sys.executable, "scripts/torture.py", "--gateway", "local"]
    arguments = ["--seed", "3", "--tasks", "40", "--kills", "2", "--duration", "10", "--sleep", "0.02"]
    finished = subprocess.run([*script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    last = finished.stdout.splitlines()[-1]
    assert re.fullmatch(r"torture: [1-9]\d* kills, 40 tasks, 0 lost, 0 run twice", last)
