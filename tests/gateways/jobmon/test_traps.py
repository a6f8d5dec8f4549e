"""What goes wrong between the daemon and the server, one trap a test; the stand-in fails at just the right moment."""

import asyncio
from dataclasses import replace

import pytest

from swarmd.core.batch import Batch
from swarmd.core.model import ADJUSTED_RESOURCES_BASE, Array, Task, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, Found, OutcomeUnknownError, SwarmInfo
from swarmd.gateways.jobmon.gateway import JobmonGateway
from swarmd.gateways.jobmon.settings import JobmonSettings
from swarmd.scheduler import Scheduler
from tests.gateways.jobmon.conftest import QUICK
from tests.gateways.jobmon.fake import Fault
from tests.gateways.recording import SWARM, batch_of, eventually

RESOURCES = TaskResources(1, cluster="fake", queue="null.q", memory_mib=2048, extra={"memory": "2", "cores": "1"})
LOST = Fault(cut_after=0)
DONE_AND_LOST = Fault(does_it=True)
HALF_AN_ANSWER = Fault(cut_after=70, does_it=True)


def batch(*task_ids: int, attempt: int = 1, resources: TaskResources = RESOURCES) -> Batch:
    return batch_of(*["true"] * len(task_ids), first_id=task_ids[0], attempt=attempt, resources=resources)


# -- calls that would queue twice ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [DONE_AND_LOST, HALF_AN_ANSWER, Fault(500, "OperationalError", does_it=True)])
async def test_a_call_whose_answer_is_lost_is_found_and_not_repeated(fake, drive, fault):
    fake.add_run(1, 1, [1, 2])
    driven = await drive(fake.url)
    fake.faults["queue_task_batch"] = [fault]
    asked = batch(1, 2)
    with pytest.raises(OutcomeUnknownError):
        await driven.gateway.queue_batch(asked)
    answer = await driven.found(asked)
    assert answer.found is Found.QUEUED
    assert not answer.refusals
    assert [fake.instances(task_id) for task_id in (1, 2)] == [1, 1]
    fake.set("D", 1, 2)
    await driven.record.ended(1, 2)


async def test_a_call_that_never_arrived_is_given_up_only_when_it_cannot_be_under_way_any_more(fake, drive):
    fake.add_run(1, 1, [1, 2])
    driven = await drive(fake.url, doubt_seconds=1.0)
    fake.faults["queue_task_batch"] = [LOST]
    asked = batch(1, 2)
    with pytest.raises(OutcomeUnknownError):
        await driven.gateway.queue_batch(asked)
    lost_at = asyncio.get_running_loop().time()
    assert (await driven.gateway.find_batch(asked)).found is Found.UNKNOWN
    assert (await driven.found(asked)).found is Found.NOT_QUEUED
    assert asyncio.get_running_loop().time() - lost_at >= 1.0
    await driven.gateway.queue_batch(batch(1, 2, attempt=2))
    assert [fake.instances(task_id) for task_id in (1, 2)] == [1, 1]


async def test_while_a_call_may_be_under_way_there_is_no_other_for_its_array(fake, drive):
    fake.add_run(1, 1, [1, 2])
    driven = await drive(fake.url, doubt_seconds=60)
    fake.faults["queue_task_batch"] = [LOST]
    with pytest.raises(OutcomeUnknownError):
        await driven.gateway.queue_batch(batch(1))
    with pytest.raises(BatchRefusedError, match="may be under way"):
        await driven.gateway.queue_batch(batch(2))
    assert fake.instances(2) == 0


async def test_there_is_one_call_at_a_time_for_an_array(fake, drive):
    fake.add_run(1, 1, [1, 2])
    driven = await drive(fake.url)
    begun, go_on = [], asyncio.Event()

    async def wait(path, body):
        if "queue_task_batch" in path:
            begun.append(body["task_ids"])
            await go_on.wait()

    fake.before = wait
    both = asyncio.gather(driven.gateway.queue_batch(batch(1)), driven.gateway.queue_batch(batch(2)))
    syncs = len(fake.paths("task_status_updates"))
    await eventually(lambda: begun and len(fake.paths("task_status_updates")) > syncs + 3)
    assert len(begun) == 1
    go_on.set()
    await both
    assert begun == [[1], [2]]


async def test_a_batch_of_an_earlier_daemon_is_found_at_the_server(fake, drive):
    fake.add_run(1, 1, [1, 2])
    fake.set("R", 1)
    driven = await drive(fake.url)
    answer = await driven.found(batch(1, 2, attempt=4))
    assert answer.found is Found.QUEUED
    assert [refusal.task_ids for refusal in answer.refusals] == [[2]]
    await driven.record.until(lambda: (SWARM, 1, 4, TaskStatus.RUNNING, "") in driven.record.news)


# -- answers that say less than they seem to -----------------------------------------------------------------------


async def test_what_an_answer_leaves_out_comes_back_and_is_given_up_once_the_server_does_not_know_it(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    outcome = await driven.gateway.queue_batch(batch(1, 2))
    assert [(refusal.task_ids, refusal.permanent) for refusal in outcome.refusals] == [([2], False)]
    syncs = len(fake.paths("task_status_updates"))
    await eventually(lambda: len(fake.paths("task_status_updates")) > syncs + 2)
    outcome = await driven.gateway.queue_batch(batch(2, attempt=2))
    assert [(refusal.task_ids, refusal.permanent) for refusal in outcome.refusals] == [([2], True)]


async def test_what_the_server_does_not_know_is_given_up_also_when_the_answer_about_the_rest_is_lost(fake, drive):
    fake.add_run(1, 1, [2])
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    syncs = len(fake.paths("task_status_updates"))
    await eventually(lambda: len(fake.paths("task_status_updates")) > syncs + 2)
    fake.faults["queue_task_batch"] = [DONE_AND_LOST]
    both = batch(1, 2, attempt=2)
    with pytest.raises(OutcomeUnknownError):
        await driven.gateway.queue_batch(both)
    answer = await driven.found(both)
    assert answer.found is Found.QUEUED
    assert [(refusal.task_ids, refusal.permanent) for refusal in answer.refusals] == [([1], True)]


async def test_a_task_that_the_server_does_not_move_was_not_queued(fake, drive):
    fake.add_run(1, 1, [1, 2])
    driven = await drive(fake.url)

    async def fail_just_now(path, body):
        if "queue_task_batch" in path:
            fake.set("E", 2)

    fake.before = fail_just_now
    outcome = await driven.gateway.queue_batch(batch(1, 2))
    assert [(refusal.task_ids, refusal.permanent) for refusal in outcome.refusals] == [([2], False)]
    assert "ERROR_RECOVERABLE" in outcome.refusals[0].reason


async def test_a_change_that_becomes_visible_late_is_seen(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url, full_sync_seconds=100, sync_overlap_seconds=3)
    await driven.gateway.queue_batch(batch(1))
    full = fake.paths("task_status_updates").count({})
    await eventually(lambda: fake.paths("task_status_updates")[-1] != {})  # it asks for changes only by now
    fake.set("D", 1, stamped_ago=2)
    await driven.record.ended(1)
    assert fake.paths("task_status_updates").count({}) >= full


async def test_a_change_that_is_later_than_the_overlap_is_seen_by_a_full_look(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url, full_sync_seconds=1.0, sync_overlap_seconds=0)
    await driven.gateway.queue_batch(batch(1))
    fake.set("D", 1, stamped_ago=3000)
    await driven.record.ended(1)


async def test_the_servers_own_times_are_given_back_unchanged(fake, drive):
    fake.add_run(1, 1, [1])
    said: list[str] = []

    def unreadable(seconds: float = 0) -> str:
        said.append(f"moment {len(said)}")
        return said[-1]

    fake.time = unreadable
    await drive(fake.url, sync_overlap_seconds=0)
    await eventually(lambda: any(body for body in fake.paths("task_status_updates")))
    asked = [body["last_sync"] for body in fake.paths("task_status_updates") if body]
    assert set(asked) <= set(said)


async def test_news_from_before_a_call_is_not_taken_for_news_of_it(fake, drive):
    """A look at the tasks that began before the call, and is answered after it."""
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(path, body):
        if "task_status_updates" in path and not held.is_set():
            held.set()
            await go_on.wait()
            fake.task(1).status = "G"  # as it stood when the question was asked
            asyncio.get_running_loop().call_soon(lambda: fake.set("R", 1))

    fake.before = hold
    await held.wait()
    await driven.gateway.queue_batch(batch(1))
    go_on.set()
    await driven.record.running(1)
    assert driven.record.ended_ids() == set()


# -- errors that pass, and errors that do not ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["<class 'KeyError'>", "ValueError", "NoResultFound", "sqlalchemy.exc.ArgumentError"])
async def test_a_500_that_is_permanent_ends_the_tasks(fake, drive, kind):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    fake.faults["queue_task_batch"] = [Fault(500, kind)]
    (refusal,) = (await driven.gateway.queue_batch(batch(1))).refusals
    assert refusal.permanent
    assert "told to" in refusal.reason


@pytest.mark.parametrize("status", [503, 404, 403])
async def test_an_error_that_says_that_nothing_was_done_gives_the_batch_back(fake, drive, status):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    fake.faults["queue_task_batch"] = [Fault(status)]
    (refusal,) = (await driven.gateway.queue_batch(batch(1))).refusals
    assert not refusal.permanent
    assert await driven.gateway.queue_batch(batch(1, attempt=2)) is not None
    assert fake.instances(1) == 1


@pytest.mark.parametrize("status", [500, 502, 504, 423])
async def test_any_other_error_puts_the_batch_in_doubt(fake, drive, status):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    fake.faults["queue_task_batch"] = [Fault(status, "OperationalError")]
    with pytest.raises(OutcomeUnknownError, match=str(status)):
        await driven.gateway.queue_batch(batch(1))


async def test_what_passes_is_tried_again_where_that_is_harmless(fake, drive):
    fake.add_run(1, 1, [1])
    fake.faults["update_status"] = [Fault(500, "OperationalError"), LOST]
    fake.faults["task_status_updates"] = [Fault(423), HALF_AN_ANSWER, LOST]
    fake.faults["bind_resources"] = [DONE_AND_LOST, Fault(503)]
    driven = await drive(fake.url)
    assert not (await driven.gateway.queue_batch(batch(1))).refusals
    fake.set("D", 1)
    await driven.record.ended(1)


async def test_a_dropped_connection_costs_nothing(drive):
    from tests.gateways.jobmon.fake import FakeJobmon

    async with FakeJobmon(newer=True).serving() as fake:
        fake.add_run(1, 1, [1])
        driven = await drive(fake.url)
        fake.faults["queue_task_batch"] = [Fault(503)]
        assert (await driven.gateway.queue_batch(batch(1))).refusals
        await eventually(lambda: fake.dropped_connections > 1)  # array limits are not known here: 404 each time
        assert not (await driven.gateway.queue_batch(batch(1, attempt=2))).refusals


async def test_heartbeats_go_on_while_a_call_takes_long(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url, heartbeat_seconds=0.05)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(path, body):
        if "queue_task_batch" in path:
            begun.set()
            await go_on.wait()

    fake.before = wait
    queueing = asyncio.ensure_future(driven.gateway.queue_batch(batch(1)))
    await begun.wait()
    beats, triages, syncs = (len(fake.paths(part)) for part in ("log_heartbeat", "triag", "task_status_updates"))
    await eventually(
        lambda: (
            len(fake.paths("log_heartbeat")) > beats + 5
            and len(fake.paths("triag")) > triages + 1
            and len(fake.paths("task_status_updates")) > syncs + 1
        )
    )
    assert not queueing.done()
    go_on.set()
    assert not (await queueing).refusals


# -- resources -----------------------------------------------------------------------------------------------------


async def test_resources_are_bound_once(fake, drive):
    fake.add_run(1, 1, [1, 2, 3])
    driven = await drive(fake.url)
    for task_id in (1, 2, 3):
        await driven.gateway.queue_batch(batch(task_id))
    assert fake.bound == [
        {"queue_id": 1, "task_resources_type_id": "O", "requested_resources": {"memory": 2, "cores": 1}}
    ]


async def test_resources_that_were_adjusted_are_bound_as_such(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    fake.set("A", 1)
    await driven.record.ended(1)
    assert driven.record.end_of(1) == (TaskStatus.ADJUSTING_RESOURCES, "task 1 said no")
    more = replace(RESOURCES, task_resources_id=ADJUSTED_RESOURCES_BASE + 1, memory_mib=3072)
    await driven.gateway.queue_batch(replace(batch(1, attempt=2), task_resources=more))
    assert fake.bound[-1]["task_resources_type_id"] == "A"
    assert fake.bound[-1]["requested_resources"] == {"memory": 3, "cores": 1}
    assert fake.task(1).resources == [1, 2]


async def test_a_queue_that_there_is_not_ends_the_tasks(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    nowhere = TaskResources(1, cluster="fake", queue="nowhere.q")
    (refusal,) = (await driven.gateway.queue_batch(batch(1, resources=nowhere))).refusals
    assert refusal.permanent
    assert "'nowhere.q'" in refusal.reason


async def test_what_queues_can_hold_is_told_before_it_is_needed_and_when_it_changes(fake, drive):
    fake.add_run(1, 1, [1])
    fake.queues |= {
        "null.q": "{'cores': (1, 4), 'memory': (1, 3)}",
        "big.q": '{"memory": [1, 64], "runtime": [1, 100]}',
    }
    driven = await drive(fake.url)
    resources = TaskResources(1, cluster="fake", queue="null.q", fallback_queues=("big.q",))
    await driven.gateway.queue_batch(batch(1, resources=resources))

    def told() -> list[tuple[object, ...]]:
        limits = [each for _, update in driven.record.updates for each in update.queue_limits]
        return [(each.queue, each.cores, each.memory_mib, each.runtime_seconds) for each in limits]

    assert sorted(told()) == [("big.q", None, 65536, 100), ("null.q", 4, 3072, None)]
    fake.queues["null.q"] = "{'cores': (1, 8)}"
    await driven.record.until(lambda: ("null.q", 8, None, None) in told())


# -- arrays side by side -------------------------------------------------------------------------------------------


def of_array(array_id: int, task_id: int, resources: TaskResources = RESOURCES) -> Batch:
    made = batch(task_id, resources=resources)
    return replace(made, array=replace(made.array, array_id=array_id))


async def test_batches_of_an_array_whose_call_takes_long_keep_no_other_array_waiting(fake, monkeypatch):
    """Many small batches of one array come first; a scheduler has only so many calls under way."""
    monkeypatch.setattr("swarmd.gateways.jobmon.queueing.SLOW_SECONDS", 0.3)
    many = 30
    fake.add_run(1, 1, range(1, many + 2))
    state = SwarmState(SWARM)
    resources = [replace(RESOURCES, task_resources_id=number, runtime_seconds=number) for number in range(1, many + 1)]
    tasks = [Task(number, 16, number) for number in range(1, many + 1)]
    state.load([Array(16, command="true"), Array(17, command="true")], resources, [*tasks, Task(many + 1, 17, 1)])
    gateway = JobmonGateway(JobmonSettings.model_validate(QUICK))
    await gateway.start(lambda swarm_id, update: None)
    ids = {"workflow_run_id": "1", "workflow_id": "1"}
    await gateway.add_swarm(SwarmInfo(SWARM, options={"server": fake.url, **ids}))
    go_on = asyncio.Event()

    async def wait(path, body):
        if "array/16/queue_task_batch" in path:
            await go_on.wait()

    fake.before = wait
    scheduler = Scheduler(gateway, state, max_in_flight=8)
    ticking = asyncio.create_task(scheduler.tick(60))
    try:
        await eventually(lambda: fake.instances(many + 1) == 1)
        assert len(fake.paths("array/16/queue_task_batch")) == 1
    finally:
        go_on.set()
        await ticking
    async with asyncio.timeout(60):
        while sum(fake.instances(task_id) for task_id in range(1, many + 1)) < many:
            await scheduler.tick(5)
    assert {fake.instances(task_id) for task_id in range(1, many + 2)} == {1}
    await gateway.close()


async def test_a_turn_is_waited_for_while_the_calls_before_it_are_quick(fake, drive, monkeypatch):
    monkeypatch.setattr("swarmd.gateways.jobmon.queueing.SLOW_SECONDS", 0.5)
    fake.add_run(1, 1, range(1, 11))
    driven = await drive(fake.url)

    async def slowly(path, body):
        if "queue_task_batch" in path:
            await asyncio.sleep(0.1)

    fake.before = slowly
    await asyncio.gather(*(driven.gateway.queue_batch(batch(task_id)) for task_id in range(1, 11)))
    assert {fake.instances(task_id) for task_id in range(1, 11)} == {1}


async def test_resources_that_are_bound_wait_for_no_others(fake, drive):
    fake.add_run(1, 1, [1, 2, 3])
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(of_array(16, 1))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(path, body):
        if "bind_resources" in path:
            begun.set()
            await go_on.wait()

    fake.before = wait
    new = asyncio.ensure_future(driven.gateway.queue_batch(of_array(16, 2, replace(RESOURCES, runtime_seconds=9))))
    await begun.wait()
    async with asyncio.timeout(30):
        await driven.gateway.queue_batch(of_array(17, 3))
    assert not new.done()
    go_on.set()
    assert not (await new).refusals
