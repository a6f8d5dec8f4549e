"""A swarm in a real daemon through SwarmClient: typed answers, numpy ids, errors of their own classes."""

import asyncio
from collections.abc import Awaitable

import numpy as np
import pytest

from swarmd.client import (
    AlreadyExistsError,
    Change,
    End,
    FailedPreconditionError,
    InvalidArgumentError,
    LiveSwarm,
    NotFoundError,
    Outcome,
    Progress,
    RpcError,
    Snapshot,
    Swarm,
    SwarmClient,
)
from swarmd.core.errors import InvalidInputError
from swarmd.core.model import Array, QueueLimits, Task, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.workflow import WorkflowPlan
from tests.client.conftest import PullSwarm


async def test_a_workflow_in_plain_python_runs_in_its_order(client: SwarmClient, tmp_path):
    plan = Swarm("study", working_directory=tmp_path, environment={"WHO": "world"})
    write = plan.array("write", command="echo hello $WHO {name} > {name}", tasks=["a", "b"])
    read = plan.task("read", command="cat a b > all", after=write)
    study = await client.submit(plan)
    status = await study.wait(timeout=60)
    assert (status.outcome, status.is_finished, status.counts.done) == (Outcome.DONE, True, 3)
    assert (tmp_path / "all").read_text() == "hello world a\nhello world b\n"
    task = await study.task(read.task_id)
    assert (task.name, task.status, task.attempt, task.upstream_task_ids) == ("read", TaskStatus.DONE, 1, (1, 2))


async def test_a_failing_task_says_why(client: SwarmClient):
    plan = Swarm("failing")
    bad = plan.task("bad", command="exit 3", max_attempts=2)
    bad >> plan.array("after", command="true", tasks=2)
    swarm = await client.submit(plan)
    status = await swarm.wait(timeout=60)
    assert (status.outcome, status.blocked_count, status.counts.error_fatal) == (Outcome.ERROR, 2, 1)
    explained = await swarm.explain(bad.task_id)
    assert [(each.attempt, each.reason) for each in explained.attempts] == [(1, "exit code 3"), (2, "exit code 3")]
    blocked = await swarm.explain(2)
    assert ("BLOCKED_BY_FAILURE", (1,)) in [(each.kind, each.task_ids) for each in blocked.obstacles]


async def test_settings_of_a_new_swarm(client: SwarmClient):
    swarm = await client.create_swarm(
        "settings", display_name="Settings", max_concurrently_running=7, gateway="pull", fail_fast=True, paused=True
    )
    status = await swarm.status()
    assert (status.display_name, status.max_concurrently_running, status.gateway) == ("Settings", 7, "pull")
    assert status.scheduling_policy is SchedulingPolicy.FIRST_COME_FIRST_SERVED
    assert (status.fail_fast, status.paused, status.autopilot) == (True, True, False)
    assert status.create_time is not None
    changed = await swarm.configure(max_concurrently_running=0, fail_fast=False, run_status=RunStatus.STOPPED)
    assert (changed.max_concurrently_running, changed.fail_fast, changed.run_status) == (0, False, "S")
    assert (await swarm.resume()).paused is False
    assert (await swarm.pause()).paused is True


@pytest.mark.parametrize("policy", [*SchedulingPolicy, "fair_share"])
async def test_the_policy_of_a_new_swarm(client: SwarmClient, policy: SchedulingPolicy | str):
    swarm = await client.create_swarm(scheduling_policy=policy)
    assert (await swarm.status()).scheduling_policy == policy
    submitted = await client.submit(Swarm(scheduling_policy=policy))
    assert (await submitted.status()).scheduling_policy == policy


def test_a_policy_that_there_is_not_is_refused():
    with pytest.raises(InvalidInputError, match="scheduling_policy: 'fastest' is none; use one of first_come"):
        Swarm(scheduling_policy="fastest")


async def test_commands_start_where_the_program_is_and_autopilot_is_on(client: SwarmClient, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = await (await client.create_swarm()).status()
    assert (status.working_directory, status.autopilot) == (str(tmp_path), True)


async def test_a_refused_submission_leaves_nothing_behind(client: SwarmClient):
    plan = Swarm("cyclic", gateway="pull")
    a, b = plan.array("a"), plan.array("b")
    a >> b >> a
    with pytest.raises(InvalidArgumentError, match=r"1 -> 2 -> 1|2 -> 1 -> 2"):
        await client.submit(plan)
    assert "cyclic" not in [swarm.swarm_id for swarm in await client.swarms()]


async def test_a_swarm_grows_while_it_runs(client: SwarmClient):
    plan = Swarm("growing", gateway="pull")
    first = plan.array("first", tasks=2)
    swarm = await client.submit(plan)
    plan.array("second", tasks=3, after=first)
    result = await swarm.load(plan)
    assert (result.task_count, result.array_count, result.task_resources_count) == (3, 1, 0)
    assert (await swarm.done(first)).newly_ready_count == 3


async def test_a_plan_that_was_submitted_goes_into_the_next_swarm_as_well(client: SwarmClient):
    plan = Swarm("again", gateway="pull")
    plan.array("first", tasks=3)
    swarm = await client.submit(plan)
    await swarm.delete()
    assert (await (await client.submit(plan)).status()).counts.total == 3
    plan.array("second", tasks=2, after=plan["first"])
    assert (await client.swarm("again").load(plan)).task_count == 2  # by its name: what that swarm does not have
    assert (await swarm.load(plan)).task_count == 0
    other = await client.create_swarm("other", gateway="pull")
    assert (await other.load(plan)).task_count == 5
    await other.delete()
    await client.create_swarm("other", gateway="pull")
    assert (await client.swarm("other").load(plan)).task_count == 5


async def test_what_is_added_while_a_load_is_under_way_belongs_to_the_next_one(client: SwarmClient):
    plan = Swarm("race")
    plan.array("first", tasks=20_000)
    swarm = await client.create_swarm("race", gateway="pull")
    loading = asyncio.ensure_future(swarm.load(plan))
    while not plan["first"].is_loaded:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0)
    late = plan.array("late", tasks=5, after=plan["first"])
    assert not loading.done()
    assert (await loading).task_count == 20_000
    assert not late.is_loaded
    assert (await swarm.load(plan)).task_count == 5


async def test_what_a_swarm_of_columns_makes_is_what_the_daemon_takes(client: SwarmClient):
    plan = Swarm("edges", gateway="pull")
    u, v = plan.array("u" * 256, tasks=1001), plan.array("v" * 256, tasks=1000)
    u >> v
    empty = plan.array("empty", tasks=np.int64(0), after=v)
    last = plan.task("last", command="x", after=empty)
    swarm = await client.submit(plan)
    assert (await swarm.task(last.task_id)).upstream_task_ids == tuple(v.task_ids.tolist())


async def test_a_submission_that_is_broken_off_leaves_nothing_behind(client: SwarmClient):
    plan = Swarm("broken-off", gateway="pull")
    plan.array("first", tasks=100_000)
    for wait in (0, 0.002, 0.1):
        submitting = asyncio.ensure_future(client.submit(plan))
        await asyncio.sleep(wait)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        assert "broken-off" not in [swarm.swarm_id for swarm in await client.swarms()]
        assert not plan["first"].is_loaded


async def test_plain_values_are_loaded_too(client: SwarmClient):
    swarm = await client.create_swarm("plain", gateway="pull")
    plan = WorkflowPlan("x", arrays=[Array(5, "a")], task_resources=[TaskResources(6)], tasks=[Task(7, 5, 6)])
    assert (await swarm.load(plan)).newly_ready_count == 1


async def test_ids_are_numbers_lists_or_columns(pull_swarm: PullSwarm):
    swarm = await pull_swarm(1000)
    ids = np.arange(1, 1001)
    assert (await swarm.running(ids)).changed_count == 1000
    assert (await swarm.done(ids[:500], attempts=0)).changed_count == 500
    assert (await swarm.done(501)).changed_count == 1
    assert (await swarm.done([502, 503])).changed_count == 2
    assert (await swarm.cancel(ids[900:], reason="not needed")).cancelled_count == 100
    result = await swarm.reset(ids[:10])
    assert (result.reset_count, result.newly_ready_count) == (10, 10)
    assert (await swarm.task(1000)).reason == "not needed"


async def test_many_ids_go_in_several_messages(pull_swarm: PullSwarm):
    swarm = await pull_swarm(120_000)
    ids = np.arange(1, 120_001)
    assert (await swarm.report("D", ids, np.zeros(120_000, dtype=int))).changed_count == 120_000
    assert (await swarm.status()).outcome is Outcome.DONE


async def test_stale_news_is_told_apart(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    await swarm.done([1])
    result = await swarm.running([1, 2])
    (ignored,) = result.ignored
    assert (list(ignored.task_ids), ignored.status, ignored.reason) == ([1], TaskStatus.RUNNING, "TASK_IS_FINAL")
    assert result.changed_count == 1


async def test_selecting_by_array_and_status(client: SwarmClient):
    plan = Swarm("selected", gateway="pull")
    first, second = plan.array("first", tasks=3), plan.array("second", tasks=3)
    swarm = await client.submit(plan)
    await swarm.done(first[:2])
    found = [task.task_id async for task in swarm.tasks(statuses=["G"], arrays=["first"])]
    assert found == [3]
    assert [task.task_id async for task in swarm.tasks(arrays=[second, 1])] == [1, 2, 3, 4, 5, 6]
    assert (await swarm.cancel(arrays=[second], statuses=[TaskStatus.REGISTERED])).cancelled_count == 3
    assert (await swarm.cancel(everything=True)).final_count == 5
    with pytest.raises(NotFoundError, match="no array is called 'third'"):
        await swarm.cancel(arrays=["third"])


async def test_an_empty_selection_selects_nothing(client: SwarmClient):
    plan = Swarm("empty-selection", gateway="pull")
    first, second = plan.array("first", tasks=3), plan.array("second", tasks=3)
    swarm = await client.submit(plan)
    await swarm.done(second)
    for nothing in (
        swarm.cancel([], statuses=["G"]),
        swarm.cancel(first[:0], arrays=["first"]),
        swarm.cancel([1, 2], arrays=[]),
        swarm.cancel(statuses=[], arrays=[first]),
        swarm.cancel([], everything=True),
    ):
        assert (await nothing).cancelled_count == 0
    for nothing_reset in (swarm.reset([], statuses=["D"]), swarm.reset(arrays=["second"], statuses=[])):
        assert (await nothing_reset).reset_count == 0
    assert [task async for task in swarm.tasks(arrays=[])] == []
    assert [task async for task in swarm.tasks(statuses=[], arrays=["first"])] == []
    counts = (await swarm.status()).counts
    assert (counts.registered, counts.done) == (3, 3)


async def test_one_array_or_status_needs_no_list(client: SwarmClient):
    plan = Swarm("one-selection", gateway="pull")
    first = plan.array("first", tasks=3)
    plan.array("second", tasks=3)
    swarm = await client.submit(plan)
    assert [task.task_id async for task in swarm.tasks(statuses="G", arrays="first")] == [1, 2, 3]
    assert [task.task_id async for task in swarm.tasks(statuses=TaskStatus.REGISTERED, arrays=2)] == [4, 5, 6]
    assert (await swarm.cancel(arrays=first)).cancelled_count == 3


async def test_what_is_no_status_or_array_is_refused(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    calls: list[tuple[Awaitable[object], str]] = [
        (swarm.cancel(statuses=["DONE"]), "statuses"),
        (swarm.reset(statuses="DX"), "statuses"),
        (swarm.cancel(arrays=[None]), "arrays"),  # type: ignore[list-item]
        (swarm.report("nonsense", [1]), "status"),
        (swarm.updates().report("nonsense", [1]), "status"),
        (swarm.configure(run_status="nonsense"), "run_status"),
    ]
    for call, field in calls:
        with pytest.raises(InvalidInputError) as caught:
            await call
        assert caught.value.field == field
    assert (await swarm.status()).counts.registered == 4


async def test_ticks_give_what_to_run(client: SwarmClient):
    plan = Swarm("ticks", gateway="pull", max_concurrently_running=3)
    plan.array("simulate", command="simulate {name}", tasks=5, resources={"cores": 2, "memory": 100, "runtime": 60})
    swarm = await client.submit(plan)
    work = await swarm.has_work()
    assert work
    assert (work.ready_count, work.available_capacity, work.active_count) == (5, 3, 0)
    result = await swarm.tick(timeout=10, max_batches=1)
    (batch,), (outcome,) = result.batches, result.batch_results
    assert (batch.array_name, batch.task_ids.tolist(), batch.attempts.tolist()) == ("simulate", [1, 2, 3], [1, 1, 1])
    assert (batch.resources.cores, batch.resources.memory_mib, batch.resources.runtime_seconds) == (2, 100, 60.0)
    assert [(task.name, task.command) for task in batch.tasks][1] == ("1", "simulate 1")
    assert (outcome.batch_size, outcome.error, result.ready_count, result.timed_out) == (3, "", 2, False)
    assert not await swarm.has_work()
    await swarm.failed(batch.task_ids[:1], batch.attempts[:1], reason="exit code 1")
    assert (await swarm.task(1)).failed_attempts == 1


async def test_resources_grow_within_what_queues_can_hold(client: SwarmClient):
    plan = Swarm("out-of-memory", gateway="pull")
    plan.array(
        "a",
        command="true",
        resources={"queue": "short", "memory": 100, "fallback_queues": ["long"]},
        resource_scales={"memory": 1.0},
        max_attempts=5,
    )
    swarm = await client.submit(plan)
    await swarm.apply(StateUpdate(queue_limits=[QueueLimits("", "short", memory_mib=150)]))
    for _ in range(2):
        await swarm.tick()
        await swarm.apply({1: "A"})
    attempts = (await swarm.explain(1)).attempts
    asked = [each.resources and (each.resources.queue, each.resources.memory_mib) for each in attempts]
    assert asked == [("short", 100), ("long", 200)]


async def test_limits_of_arrays(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    await swarm.limit_array("simulate", 2)
    assert (await swarm.status(arrays=True)).arrays["simulate"].max_concurrently_running == 2
    assert len((await swarm.tick()).batches[0].task_ids) == 2
    await swarm.limit_array(1, None)
    assert (await swarm.status(arrays=True)).arrays["simulate"].max_concurrently_running is None


async def test_watching_tells_everything_in_order(pull_swarm: PullSwarm):
    swarm = await pull_swarm(2)
    events = swarm.watch(progress_interval=0.1)
    snapshot = await anext(events)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.swarm.counts.ready == 2
    assert isinstance(await anext(events), Progress)
    await swarm.apply(StateUpdate(TaskStatuses({1: "D"}), max_concurrently_running=5, array_limits={1: 3}))
    await swarm.done(2)
    rest = [event async for event in events if not isinstance(event, Progress)]
    first, second, end = rest
    assert isinstance(first, Change)
    assert [(each.status, each.task_ids.tolist()) for each in first.statuses] == [(TaskStatus.DONE, [1])]
    assert (first.max_concurrently_running, dict(first.array_limits), first.is_finished) == (5, {1: 3}, False)
    assert isinstance(second, Change)
    assert second.is_finished
    assert isinstance(end, End)
    assert (end.outcome, end.was_deleted) == (Outcome.DONE, False)


async def test_a_watch_of_a_deleted_swarm_ends(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    events = swarm.watch(until_finished=False)
    await anext(events)
    await swarm.delete()
    *_, end = [event async for event in events]
    assert isinstance(end, End)
    assert end.was_deleted


async def test_waiting_has_an_end(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    with pytest.raises(TimeoutError):
        await swarm.wait(timeout=0.05)
    waiting = asyncio.ensure_future(swarm.wait())
    await swarm.done(np.arange(1, 5))
    assert (await waiting).outcome is Outcome.DONE


async def test_errors_are_of_classes_that_a_program_can_catch(client: SwarmClient, pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    calls: list[tuple[Awaitable[object], type[RpcError]]] = [
        (client.swarm("nobody").status(), NotFoundError),
        (client.create_swarm(swarm.swarm_id), AlreadyExistsError),
        (client.create_swarm("not a name!"), InvalidArgumentError),
        (swarm.task(99), NotFoundError),
        (swarm.done([1, 99]), NotFoundError),
    ]
    for call, kind in calls:
        with pytest.raises(kind) as caught:
            await call
        assert caught.value.reason
        assert caught.value.message == str(caught.value)
    await swarm.tick()
    with pytest.raises(FailedPreconditionError):
        await swarm.delete()
    with pytest.raises(NotFoundError) as caught:
        await swarm.done([1, 99])
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "UNKNOWN_TASK")
    assert caught.value.field == "update.task_statuses[0].task_ids[1]"
    assert "99" in caught.value.message
    assert (await swarm.task(1)).status is TaskStatus.QUEUED  # nothing of it was applied


async def test_a_swarm_says_what_it_is(client: SwarmClient):
    assert repr(client.swarm("x")) == f"<swarm 'x' at {client.address}>"
    assert isinstance(client.swarm(), LiveSwarm)
