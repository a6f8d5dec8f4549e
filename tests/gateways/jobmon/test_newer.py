"""The newer servers: routes below /api/v3, a version in the query, ids as text without it, dropped connections."""

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio

from swarmd.cli.errors import NotThereError
from swarmd.cli.run.jobmon import JobmonRun, checked_run, fetch
from swarmd.core.errors import NotFoundError
from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from tests.gateways.jobmon.fake import FakeJobmon, Fault
from tests.gateways.recording import batch_of

RESOURCES = TaskResources(1, cluster="fake", queue="null.q")


@pytest_asyncio.fixture
async def newer():
    async with FakeJobmon(prefix="/api/v3", newer=True).serving() as server:
        server.queues["big.q"] = "{'memory': (1, 100)}"
        yield server


def named(server: FakeJobmon, client_version: str = "3.6.0") -> JobmonRun:
    return checked_run(1, server.url, 1, "/api/v3/", client_version)


async def test_a_run_is_driven_below_the_prefix(newer, drive):
    newer.add_run(1, 1, [1])
    newer.runs_tasks = True
    driven = await drive(newer.url, route_prefix="/api/v3", client_version="3.6.0")
    assert not (await driven.gateway.queue_batch(batch_of("true", resources=RESOURCES))).refusals
    await driven.record.ended(1)
    assert driven.record.end_of(1)[0] is TaskStatus.DONE


async def test_a_workflow_is_fetched_with_or_without_the_version(newer, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    workflow = newer.add_run(1, 1, [1, 2, 3, 4], status="L")
    workflow.downstreams = {1: [3], 2: [3, 4]}
    newer.set("D", 1)
    newer.set("A", 4)
    for version in ("3.6.0", ""):
        fetched = await asyncio.to_thread(fetch, named(newer, version))
        plan = fetched.plan
        assert {task.task_id: task.upstream_task_ids for task in plan.tasks} == {2: (), 3: (2,), 4: (2,)}
        assert [array.max_concurrently_running for array in plan.arrays] == [100]
        first, grown = plan.task_resources
        assert (first.memory_mib, grown.memory_mib, grown.extra["task_resources_type_id"]) == (2048, 3072, "A")
        assert first.fallback_queues == ("big.q",)
        assert {task.task_resources_id for task in plan.tasks} == {first.task_resources_id, grown.task_resources_id}
        assert plan.tasks[0].resource_scales == {"memory": 0.5}
        assert fetched.options.url == f"{newer.url}/api/v3"


async def test_a_large_workflow_comes_in_parts_and_through_errors(newer, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    newer.add_run(1, 1, range(1, 1202), status="L")
    newer.faults["get_tasks"] = [Fault(500, "OperationalError"), Fault(503)]
    newer.faults["get_downstream_tasks"] = [Fault(423), Fault()]
    fetched = await asyncio.to_thread(fetch, named(newer))
    assert [task.task_id for task in fetched.plan.tasks] == list(range(1, 1202))
    assert newer.runs[1].heartbeats  # it is kept alive meanwhile
    assert newer.dropped_connections == 3


async def test_what_the_server_has_already_comes_first_and_what_failed_for_good_stays_so(newer, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    newer.add_run(1, 1, [1, 2, 3])
    newer.set("R", 2)
    newer.set("F", 3)
    plan = (await asyncio.to_thread(fetch, named(newer))).plan
    assert [(task.priority, task.status.value) for task in plan.tasks] == [(0, "G"), (1, "G"), (0, "F")]


async def test_a_server_that_does_not_tell_workflows_wants_them_named(newer, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    newer.add_run(1, 1, [1])
    newer.tells_workflows = False
    assert (await asyncio.to_thread(fetch, named(newer))).options.workflow_id == 1
    with pytest.raises(NotFoundError, match="name it: --workflow ID"):
        await asyncio.to_thread(fetch, replace(named(newer), workflow_id=None))


async def test_a_run_is_found_by_itself_and_a_wrong_workflow_found_out(newer, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    newer.add_run(1, 4, [1], status="L")
    fetched = await asyncio.to_thread(fetch, replace(named(newer), workflow_id=None))
    assert fetched.options.workflow_id == 4
    first, second, *_ = newer.paths("log_heartbeat")
    assert (first["next_report_increment"], second["next_report_increment"]) == (0, 93)  # alive again at once
    with pytest.raises(NotThereError, match="belongs to workflow 4, not to 1"):
        await asyncio.to_thread(fetch, named(newer))
