"""The traps of Jobmon's server, each at the real one: what its calls do, and that a swarm is not caught by it."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from swarmd.core.batch import Batch
from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, QueueOutcome, Refusal
from swarmd.gateways.jobmon.life import FOLLOWING
from tests.daemon import until
from tests.gateways.jobmon.conftest import Driven
from tests.gateways.jobmon.proxy import FaultyProxy
from tests.gateways.jobmon.real import Jobmon, Workflow
from tests.gateways.jobmon.test_real import WAIT_SECONDS, environment, home, swarmd_run
from tests.gateways.recording import batch_of

__all__ = ["home"]

pytestmark = pytest.mark.timeout(600)
"""The first test may have to install Jobmon."""

RESOURCES = TaskResources(1, cluster="dummy", queue="null.q", runtime_seconds=7)
PATIENCE = 60.0


def made(jobmon: Jobmon, count: int, **options: object) -> Workflow:
    """A workflow whose run is RUNNING."""
    workflow = jobmon.workflow([["true"] * count], cluster="dummy", **options)  # type: ignore[arg-type]
    jobmon.set_run_status(workflow.run_id, "I", "O", "R")
    return workflow


def batch(workflow: Workflow, *places: int, attempt: int = 1) -> Batch:
    """Of tasks of a workflow, by their places in it, which are side by side."""
    first = workflow.task_ids[places[0]]
    asked = batch_of(*["true"] * len(places), first_id=first, attempt=attempt, resources=RESOURCES)
    return replace(asked, array=replace(asked.array, array_id=workflow.array_ids[0]))


def tell(jobmon: Jobmon, status: str, task_id: int, seconds_ago: float = 0) -> None:
    """As a transaction does that began so long ago."""
    query = "update task set status = ?, status_date = datetime('now', ?) where id = ?"
    jobmon.change(query, status, f"-{seconds_ago} seconds", task_id)


async def comes_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells what the server does
            await asyncio.sleep(0.1)


async def refusals(driven: Driven, batch: Batch) -> Sequence[Refusal]:
    """Queue it. Gives what was not taken of it."""
    return (await driven.gateway.queue_batch(batch) or QueueOutcome()).refusals


async def taken_up(drive, jobmon: Jobmon, workflow: Workflow, url: str = "", **options: object) -> Driven:
    driven: Driven = await drive(url or jobmon.url, workflow, **options)
    driven.record.patience = PATIENCE
    return driven


# -- calls ---------------------------------------------------------------------------------------------------------


async def test_resources_are_bound_once(jobmon, drive):
    """Every call makes new ones."""
    workflow = made(jobmon, 3)
    query = "select count(*) from task_resources"
    ((before,),) = jobmon.rows(query)
    driven = await taken_up(drive, jobmon, workflow)
    for place in range(3):
        assert not await refusals(driven, batch(workflow, place))
    assert jobmon.rows(query) == [(before + 1,)]


async def test_an_id_that_the_answer_leaves_out_is_given_up(jobmon, drive):
    workflow = made(jobmon, 1)
    driven = await taken_up(drive, jobmon, workflow)
    both = batch_of("true", "true", first_id=workflow.task_ids[0], resources=RESOURCES)  # there is no second
    found = await refusals(driven, both)
    assert [(refusal.task_ids, refusal.permanent) for refusal in found] == [([both.task_ids[1]], False)]
    again = batch_of("true", first_id=int(both.task_ids[1]), attempt=2, resources=RESOURCES)
    (refusal,) = await refusals(driven, again)
    async with asyncio.timeout(PATIENCE):
        while not refusal.permanent:
            await asyncio.sleep(0.1)
            (refusal,) = await refusals(driven, again)
    assert "does not know the task" in refusal.reason


async def test_what_the_server_has_already_is_not_queued_again(jobmon, drive):
    workflow = made(jobmon, 2)
    body = {"task_ids": workflow.task_ids[:1], "task_resources_id": workflow.resources_id, "cluster_id": 1}
    jobmon.post(f"/array/{workflow.array_ids[0]}/queue_task_batch", **body, workflow_run_id=workflow.run_id)
    driven = await taken_up(drive, jobmon, workflow)
    assert not await refusals(driven, batch(workflow, 0, 1))
    assert list(jobmon.instances(workflow).values()) == [1, 1]


async def test_an_error_inside_the_server_that_stays_one_ends_the_tasks(jobmon, drive):
    """Its queue of this name is in another cluster."""
    workflow = made(jobmon, 1)
    driven = await taken_up(drive, jobmon, workflow)
    asked = replace(batch(workflow, 0), task_resources=replace(RESOURCES, cluster="no such cluster"))
    (refusal,) = await refusals(driven, asked)
    assert refusal.permanent
    assert "'no such cluster'" in refusal.reason


# -- what changed --------------------------------------------------------------------------------------------------


async def test_changes_are_seen_without_a_look_at_everything(jobmon, drive):
    """The server's time is given back as it came: with a T in it, SQLite finds nothing."""
    workflow = made(jobmon, 2)
    driven = await taken_up(drive, jobmon, workflow, full_sync_seconds=1000.0, sync_overlap_seconds=1.0)
    assert not await refusals(driven, batch(workflow, 0, 1))
    await asyncio.sleep(2)  # by now it asks for changes only
    tell(jobmon, "R", workflow.task_ids[0])
    await driven.record.running(workflow.task_ids[0])
    tell(jobmon, "D", workflow.task_ids[0])
    await driven.record.ended(workflow.task_ids[0])


@pytest.mark.parametrize(("full", "overlap", "ago"), [(1000.0, 6.0, 4), (1.0, 0.0, 3000)])
async def test_a_change_that_is_committed_late_is_seen(jobmon, drive, full, overlap, ago):
    workflow = made(jobmon, 1)
    driven = await taken_up(drive, jobmon, workflow, full_sync_seconds=full, sync_overlap_seconds=overlap)
    assert not await refusals(driven, batch(workflow, 0))
    await asyncio.sleep(1)
    tell(jobmon, "D", workflow.task_ids[0], seconds_ago=ago)
    await driven.record.ended(workflow.task_ids[0])
    assert driven.record.end_of(workflow.task_ids[0])[0] is TaskStatus.DONE


async def test_a_task_on_its_way_through_e_is_neither_lost_nor_over(jobmon, drive):
    workflow = made(jobmon, 1)
    (task_id,) = workflow.task_ids
    driven = await taken_up(drive, jobmon, workflow)
    assert not await refusals(driven, batch(workflow, 0))
    for status in ("R", "E"):
        tell(jobmon, status, task_id)
        await asyncio.sleep(0.5)
    assert task_id not in driven.record.ended_ids()
    tell(jobmon, "G", task_id)
    await driven.record.ended(task_id)
    assert not await refusals(driven, batch(workflow, 0, attempt=2))
    assert jobmon.instances(workflow) == {task_id: 2}


# -- the run -------------------------------------------------------------------------------------------------------


def test_the_ways_of_a_run_are_those_that_the_server_knows(jobmon):
    program = "import json; from jobmon.server.web.models.workflow_run import WorkflowRun as run"
    command = [str(jobmon.venv / "bin" / "python"), "-c", f"{program}; print(json.dumps(run.valid_transitions))"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=jobmon.folder)
    known = {tuple(way) for way in json.loads(done.stdout.splitlines()[-1])}
    assert {(status, after) for status, following in FOLLOWING.items() for after in following} == known


@pytest.mark.parametrize(("status", "name"), [("S", "STOPPED"), ("E", "ERROR"), ("T", "TERMINATED")])
async def test_what_the_answer_to_a_heartbeat_says_is_obeyed(jobmon, drive, status, name):
    workflow = made(jobmon, 1)
    driven = await taken_up(drive, jobmon, workflow)
    jobmon.change("update workflow_run set status = ? where id = ?", status, workflow.run_id)
    await driven.record.until(lambda: status in driven.run_statuses)
    with pytest.raises(BatchRefusedError, match=name):
        await driven.gateway.queue_batch(batch(workflow, 0))
    assert jobmon.instances(workflow) == {workflow.task_ids[0]: 0}


async def test_what_runs_goes_on_when_the_run_is_resumed_hot(jobmon, drive):
    workflow = made(jobmon, 2)
    runs, launched = workflow.task_ids
    driven = await taken_up(drive, jobmon, workflow)
    assert not await refusals(driven, batch(workflow, 0, 1))
    for task_id, status in ((runs, "R"), (launched, "O")):
        tell(jobmon, status, task_id)
        jobmon.change("update task_instance set status = ? where task_id = ?", status, task_id)
    jobmon.post(f"/workflow/{workflow.workflow_id}/set_resume", reset_running_jobs=False)
    query = "select status from task_instance where task_id = ?"
    await comes_true(lambda: jobmon.rows(query, launched) == [("K",)])
    tell(jobmon, "F", launched)  # the distributor has ended it
    await driven.record.until(lambda: driven.run_statuses[-1] == "T")
    assert jobmon.rows(query, runs) == [("R",)]
    assert jobmon.run_status(workflow.run_id) == "T"


async def test_what_is_not_heard_of_is_looked_after(jobmon, drive):
    """Triage: nobody else calls it."""
    workflow = made(jobmon, 2)
    driven = await taken_up(drive, jobmon, workflow)
    assert not await refusals(driven, batch(workflow, 0, 1))
    query = "update task_instance set status = ?, report_by_date = datetime('now', '-1 seconds') where task_id = ?"
    for task_id, status in zip(workflow.task_ids, "OR", strict=True):
        jobmon.change(query, status, task_id)
    asked = "select status from task_instance where workflow_run_id = ? order by task_id"
    await comes_true(lambda: jobmon.rows(asked, workflow.run_id) == [("K",), ("T",)])


async def test_heartbeats_come_while_a_call_for_a_batch_hangs(jobmon, drive):
    workflow = made(jobmon, 1)
    query = "select heartbeat_date from workflow_run where id = ?"
    async with FaultyProxy(int(jobmon.url.rpartition(":")[2]), seed=1, share=0).serving() as proxy:
        proxy.queue_faults = ["stuck"]
        driven = await taken_up(drive, jobmon, workflow, proxy.url, heartbeat_seconds=0.3, heartbeat_buffer=100)
        queueing = asyncio.ensure_future(refusals(driven, batch(workflow, 0)))
        async with asyncio.timeout(PATIENCE):
            await proxy.is_stuck.wait()
            seen = set[tuple[object, ...]]()
            while len(seen) < 4:  # it counts in whole seconds
                seen.update(jobmon.rows(query, workflow.run_id))
                await asyncio.sleep(0.1)
        assert not queueing.done()
        proxy.go_on.set()
        assert not await queueing
    assert jobmon.instances(workflow) == {workflow.task_ids[0]: 1}


def test_the_limits_of_workflow_and_array_are_kept_and_the_places_of_what_ended_are_given_again(jobmon, home):
    """The server checks neither."""
    workflow = jobmon.workflow([["true"] * 4, ["true"] * 4], cluster="dummy", chained=False, limit=3, array_limit=2)
    jobmon.set_run_status(workflow.run_id, "I", "O", "R")
    command = ("--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id)

    def queued() -> list[int]:
        return [task_id for task_id, status in jobmon.statuses(workflow).items() if status == "Q"]

    with swarmd_run(environment(home), home, *command) as run:
        for _ in range(8):
            until(queued, "a task to be queued", WAIT_SECONDS)
            until(lambda: len(queued()) == min(3, left(jobmon, workflow)), "the limit to be used", WAIT_SECONDS)
            first = [task_id for task_id in queued() if task_id in workflow.task_ids[:4]]
            assert len(queued()) <= 3
            assert len(first) <= 2
            assert len(queued()) - len(first) <= 2
            jobmon.change("update task set status = 'D', status_date = datetime('now') where id = ?", queued()[0])
        assert run.wait() == 0, run.said
    assert set(jobmon.instances(workflow).values()) == {1}


def left(jobmon: Jobmon, workflow: Workflow) -> int:
    """How many tasks may be queued at once, of those that are left: two of an array."""
    open_tasks = [task_id for task_id, status in jobmon.statuses(workflow).items() if status != "D"]
    first = sum(task_id in workflow.task_ids[:4] for task_id in open_tasks)
    return min(2, first) + min(2, len(open_tasks) - first)


async def test_a_server_at_which_nothing_happens_is_asked_now_and_then(jobmon, drive):
    """At the default settings: a look every two seconds, not a loop that spins."""
    workflow = made(jobmon, 1)
    port = int(jobmon.url.rpartition(":")[2])
    async with FaultyProxy(port, seed=1, share=0).serving() as proxy:
        quiet = {"fastest_sync_seconds": 0.25, "slowest_sync_seconds": 2.0, "heartbeat_seconds": 30.0}
        quiet |= {"triage_seconds": 30.0, "limits_seconds": 10.0, "sync_overlap_seconds": 10.0}
        await taken_up(drive, jobmon, workflow, proxy.url, **quiet)
        await asyncio.sleep(6)
        assert sum(proxy.done.values()) < 25
