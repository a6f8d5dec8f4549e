"""The daemon is killed at every point at which a crash could do harm, and nothing is lost, halved or done twice.

A life of two swarms (`life.py`) is led while the daemon dies at one point of it. The engine is in this process and
keeps its own record, so that it can be compared with what the daemons said and with what is on disk at the end.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import pytest

from swarmd.core import events
from swarmd.core.status import STATUS_OF
from swarmd.core.swarm import Swarm
from swarmd.journal.directory import StateDirectory
from swarmd.wire.names import TASK_STATUS_TO_PB
from tests.crash.life import DONE, LIFE, SECONDS, Life, load_requests
from tests.crash.recording_engine import RecordingEngine
from tests.crash.restarting import ROOT, calling, restarted
from tests.daemon import short_home, until

pytestmark = pytest.mark.e2e

CRASHES: dict[str, tuple[int, ...]] = {
    "applied": (1, 9, 16, 20, 28),
    "cancel.telling": (1,),
    "commit.done": (1, 2),
    "commit.written": (1, 2),
    "create.renamed": (1, 2),
    "create.written": (1, 2),
    "delete.begun": (1,),
    "delete.done": (1,),
    "delete.renamed": (1,),
    "engine.answered": (1, 5),
    "engine.asking": (1, 5),
    "engine.cancelling": (1,),
    "engine.told": (1, 5),
    "load.part": (1, 5),
    "prune.done": (1,),
    "prune.segment": (1, 2),
    "prune.snapshot": (1,),
    "segment.made": (1, 2),
    "snapshot.begun": (1,),
    "snapshot.half": (2,),
    "snapshot.renamed": (1, 2),
    "snapshot.switched": (1, 2),
    "snapshot.written": (1, 2),
    "tick.queued": (1, 6),
    "tick.taken": (2, 4),
}
"""Every point that there is, and the times at which the daemon dies there."""

KINDS: dict[str, int] = {
    "LoadPart": 2,
    "Loaded": 3,
    "Updated": 2,
    "Configured": 1,
    "Cancelled": 1,
    "Reset": 1,
    "BatchTaken": 3,
    "BatchConcluded": 2,
    "BatchesHandedOut": 1,
    "TickAnswered": 1,
}
"""Of the commits with such an event, the one in which the daemon dies and after which it dies."""
ELSEWHERE = {"Created", "BatchDoubted"}
"""The first commits, which are among CRASHES, and those of a daemon that takes up what was left."""

CASES = [
    *((point, number) for point, numbers in CRASHES.items() for number in numbers),
    *((f"commit.written@{kind}", number) for kind, number in KINDS.items()),
    *((f"commit.done@{kind}", number) for kind, number in KINDS.items()),
]

SECOND_CRASHES = (
    "commit.written@BatchDoubted:1",
    "commit.done@BatchDoubted:1",
    "applied:1",
    "tick.queued:1",
    "commit.written@BatchConcluded:1",
)
"""Where the next daemon dies while it takes up what the first one left."""


@contextlib.contextmanager
def life_with(*arguments: str, again: Sequence[str] = ()) -> Iterator[tuple[Life, RecordingEngine]]:
    """A daemon with these arguments, an engine, and the client that has not begun."""
    with short_home() as home, restarted(home) as daemon:
        engine = RecordingEngine(home / "engine.sock")
        engine.start()
        daemon.crashing("--engine", str(engine.path), *arguments)
        life = Life(daemon, "--engine", str(engine.path), again=again)
        try:
            yield life, engine
        finally:
            life.close()
            engine.close()


def points_in_the_source() -> set[str]:
    """The names of all points: those of the daemon, and those of the gateway that the tests give it."""
    files = [*(ROOT / "src" / "swarmd").rglob("*.py"), Path(__file__).with_name("recording_gateway.py")]
    return {name for path in files for name in re.findall(r'\breach\("([^"]+)"\)', path.read_text())}


def test_every_point_is_died_at():
    assert points_in_the_source() == set(CRASHES)


def test_every_kind_of_event_is_died_with():
    assert {kind.__name__ for kind in get_args(events.Event)} == KINDS.keys() | ELSEWHERE


def test_the_life_reaches_every_point_often_enough(tmp_path):
    with life_with("--count", str(tmp_path / "count")) as (life, engine):
        life.lead()
        check(life, engine)
    reached = Counter((tmp_path / "count").read_text().split())
    assert {point: reached[point] for point, numbers in CRASHES.items() if reached[point] < max(numbers)} == {}


@pytest.mark.parametrize(("point", "number"), CASES, ids=[f"{point}-{number}" for point, number in CASES])
def test_a_daemon_that_dies_there_loses_nothing_and_does_nothing_twice(point: str, number: int):
    with life_with("--crash-at", f"{point}:{number}") as (life, engine):
        life.lead()
        assert life.kills == 1, "the point was not reached"
        check(life, engine)


@pytest.mark.parametrize("again", SECOND_CRASHES)
def test_a_daemon_that_dies_while_it_takes_up_what_was_left_changes_nothing(again: str):
    with life_with("--crash-at", "engine.told:3", again=[again, again]) as (life, engine):
        life.lead()
        assert life.kills == 3
        check(life, engine)


# -- at the end --------------------------------------------------------------------------------------------------------


def check(life: Life, engine: RecordingEngine) -> None:
    """Client, engine, daemon and disk agree."""
    life.check_acknowledged()
    check_the_engine(life, engine)
    check_repeats(life, engine)
    check_files(life)


def check_the_engine(life: Life, engine: RecordingEngine) -> None:
    record = engine.record
    assert record.given_twice() == []
    assert record.strangers == []
    offered = {result.batch_id for _, answer in life.known.ticks for result in answer.batch_results}
    assert record.batches.keys() <= offered, "the engine got a batch that no answer of a tick tells of"
    stopped = {(LIFE, task_id, attempt) for task_id, attempt in life.known.stopped}
    until(lambda: record.cancelled >= stopped, f"the engine hears that {stopped} were cancelled", SECONDS)
    assert record.not_over() == [], "a task was given to the engine again while it still had it"
    for task_id, (status, attempt) in life.tasks(LIFE).items():
        assert status == DONE
        assert (LIFE, task_id, attempt) in record.given


def check_repeats(life: Life, engine: RecordingEngine) -> None:
    """The same requests again get the same answers and do nothing."""
    given, revision = len(engine.record.given), life.swarm(LIFE).revision
    life.create(LIFE, "recording")
    with calling(life.daemon.address) as stubs:
        for request, answer in life.known.ticks:
            if request.swarm_id == LIFE:
                assert stubs.scheduler.Tick(request, timeout=SECONDS) == answer
        for swarm_id, request_id, task_ids, loaded in life.known.loads:
            if swarm_id == LIFE:
                again = stubs.swarms.AddTasks(load_requests(LIFE, request_id, task_ids), timeout=SECONDS)
                assert again == loaded
    assert (len(engine.record.given), life.swarm(LIFE).revision) == (given, revision)
    assert life.swarm_ids() == {LIFE}


def check_files(life: Life) -> None:
    """What is on disk is what the last daemon said, and there is nothing beside it."""
    told, tasks = life.swarm(LIFE), life.tasks(LIFE)
    life.daemon.kill()
    directory = StateDirectory(life.daemon.home / "state" / "swarmd")
    directory.claim()  # clears away what was being written
    directory.release()
    (store,) = directory.stores()
    names = {re.sub(r"\d+", "N", path.name) for path in store.folder.iterdir()}
    assert names <= {"records-N.db", "records-N.db-wal", "snapshot-N.bin", "mark"}
    recovered = store.recover()
    assert recovered.lost == 0
    assert recovered.swarm.state.revision == told.revision
    assert tasks_of(recovered.swarm) == tasks
    counts = recovered.swarm.state.counts()
    assert (counts.total, counts.done) == (told.task_counts.total, told.task_counts.done)
    assert recovered.swarm.display_name == told.display_name == "again"
    assert recovered.swarm.state.max_concurrently_running == told.max_concurrently_running == 20
    assert not recovered.swarm.state.paused


def tasks_of(swarm: Swarm) -> dict[int, tuple[int, int]]:
    """Status and attempt of every task."""
    table = swarm.state.table
    columns = (table.task_id, table.status, table.attempt)
    rows = zip(*(column[: table.size].tolist() for column in columns), strict=True)
    return {task_id: (TASK_STATUS_TO_PB[STATUS_OF[code]], attempt) for task_id, code, attempt in rows}
