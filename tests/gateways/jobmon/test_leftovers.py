"""What a distributor that died has left, at the real server: given up so that the next distributor can work."""

import asyncio

import pytest
import pytest_asyncio

from swarmd.gateways.jobmon.leftovers import Leftovers
from swarmd.gateways.jobmon.server import JobmonServer
from tests.daemon import until
from tests.gateways.jobmon.real import Jobmon, Workflow

pytestmark = pytest.mark.timeout(600)
"""The first test may have to install Jobmon."""


@pytest_asyncio.fixture
async def server(jobmon):
    server = JobmonServer.at(jobmon.url, seconds=60)
    await server.open()
    yield server
    await server.close()


def left_at(jobmon: Jobmon, statuses: str) -> Workflow:
    """A workflow whose run is RUNNING, with an instance in each of these statuses that no distributor knows."""
    workflow = jobmon.workflow([["true"] * len(statuses)], cluster="dummy")
    jobmon.set_run_status(workflow.run_id, "I", "O", "R")
    body = {"task_ids": workflow.task_ids, "task_resources_id": workflow.resources_id, "cluster_id": 1}
    jobmon.post(f"/array/{workflow.array_ids[0]}/queue_task_batch", **body, workflow_run_id=workflow.run_id)
    for task_id, status in zip(workflow.task_ids, statuses, strict=True):
        jobmon.change("update task_instance set status = ? where task_id = ?", status, task_id)
        jobmon.change("update task set status = ? where id = ?", "R" if status == "T" else status, task_id)
    return workflow


def leftovers(jobmon: Jobmon, server: JobmonServer, workflow: Workflow, *, pass_seconds: float = 2.0) -> Leftovers:
    async def all_statuses() -> dict[str, list[int]]:
        return (await server.statuses(workflow.workflow_id, None))[0]

    ids = (workflow.run_id, workflow.workflow_id)
    return Leftovers(server, *ids, all_statuses=all_statuses, launched_seconds=10.0, pass_seconds=pass_seconds)


def at_server(jobmon: Jobmon, workflow: Workflow) -> list[str]:
    return [jobmon.statuses(workflow)[task_id] for task_id in workflow.task_ids]


def test_a_distributor_breaks_on_what_it_has_not_launched(jobmon):
    """Why there is something to clear away, and why no second one is started before."""
    for status in "IO":
        with jobmon.distributor(left_at(jobmon, status), "dummy") as process:
            until(lambda process=process: process.poll() not in (None, 0), "the distributor to break", 60)


async def test_what_was_launched_has_its_time_and_is_given_up(jobmon, server):
    workflow = await asyncio.to_thread(left_at, jobmon, "QIOR")
    left = leftovers(jobmon, server, workflow)
    assert await left.clear(0.0) == 2
    assert at_server(jobmon, workflow) == ["Q", "I", "O", "R"]
    assert await left.clear(6.0) == 2  # as it was seen at first
    assert at_server(jobmon, workflow) == ["Q", "G", "O", "R"]
    assert await left.clear(6.0) == 1
    assert await left.clear(11.0) == 0
    assert at_server(jobmon, workflow) == ["Q", "G", "G", "R"]
    assert await server.last_error(workflow.task_ids[2]) == "Jobmon's distributor ended before the task began"


async def test_a_job_that_begins_late_finds_that_it_is_not_wanted(jobmon, server):
    """And its task's next attempt does not notice."""
    workflow = await asyncio.to_thread(left_at, jobmon, "O")
    ((stale,),) = jobmon.rows("select id from task_instance where task_id = ?", workflow.task_ids[0])
    assert await leftovers(jobmon, server, workflow).clear(11.0) == 0
    body = {"task_ids": workflow.task_ids, "task_resources_id": workflow.resources_id, "cluster_id": 1}
    path = f"/array/{workflow.array_ids[0]}/queue_task_batch"
    await asyncio.to_thread(lambda: jobmon.post(path, **body, workflow_run_id=workflow.run_id))
    for status in "IOR":
        jobmon.change("update task set status = ? where id = ?", status, workflow.task_ids[0])
        answer = await asyncio.to_thread(
            lambda: jobmon.post(f"/task_instance/{stale}/log_running", process_group_id=1, next_report_increment=60)
        )
        assert "R" not in answer["task_instance"]
        assert at_server(jobmon, workflow) == [status]


async def test_one_that_is_to_be_killed_by_nobody_is_taken_back(jobmon, server):
    workflow = await asyncio.to_thread(left_at, jobmon, "O")
    jobmon.change("update task_instance set status = 'K' where task_id = ?", workflow.task_ids[0])
    assert await leftovers(jobmon, server, workflow).clear(11.0) == 1
    assert at_server(jobmon, workflow) == ["G"]


async def test_what_nobody_hears_of_and_the_next_distributor_does_not_conclude_is_given_up(jobmon, server):
    workflow = await asyncio.to_thread(left_at, jobmon, "TTR")
    left = leftovers(jobmon, server, workflow)
    await left.look(0.0)
    assert at_server(jobmon, workflow) == ["R"] * 3  # a distributor may do it yet
    jobmon.change("update task_instance set status = 'R' where task_id = ?", workflow.task_ids[1])
    await left.look(1.0)
    assert at_server(jobmon, workflow) == ["R"] * 3
    await left.look(100.0)
    assert at_server(jobmon, workflow) == ["G", "R", "R"]


async def test_a_distributor_that_looks_seldom_has_time_to_conclude_it(jobmon, server):
    """It may know that more memory was needed, and the task gets that."""
    workflow = await asyncio.to_thread(left_at, jobmon, "T")
    left = leftovers(jobmon, server, workflow, pass_seconds=120.0)
    await left.look(0.0)
    await left.look(350.0)
    assert at_server(jobmon, workflow) == ["R"]
    await left.look(370.0)
    assert at_server(jobmon, workflow) == ["G"]
