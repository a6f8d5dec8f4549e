"""What a restart keeps, and what it says: running tasks, answers, watches, autopilots, and who has the directory."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

from swarmd._pb.swarm.v1 import array_pb2, batch_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from tests.crash.restarting import SERVE, RestartedDaemon, Stubs, calling, restarted
from tests.daemon import short_home, until

pytestmark = pytest.mark.e2e

SECONDS = 30.0
REGISTERED, RUNNING, DONE = (
    task_pb2.TASK_STATUS_REGISTERED,
    task_pb2.TASK_STATUS_RUNNING,
    task_pb2.TASK_STATUS_DONE,
)
NEVER = str(1 << 30)
"""So large a journal that no snapshot is ever due."""


@pytest.fixture
def daemon() -> Iterator[RestartedDaemon]:
    """None runs yet."""
    with short_home() as home, restarted(home) as daemon:
        yield daemon


def record_of(daemon: RestartedDaemon) -> Path:
    """Where the tasks of `load` say that they began and ended."""
    return daemon.home / "record"


def lines_of(daemon: RestartedDaemon) -> list[str]:
    record = record_of(daemon)
    return record.read_text().splitlines() if record.exists() else []


def create_request(gateway: str = "local", **settings: bool | int) -> swarm_service_pb2.CreateSwarmRequest:
    swarm = swarm_pb2.Swarm(swarm_id="s", gateway=gateway)
    for name, value in settings.items():
        setattr(swarm, name, value)
    return swarm_service_pb2.CreateSwarmRequest(swarm=swarm, request_id="create")


def tasks_request(daemon: RestartedDaemon, count: int, seconds: float = 0.0) -> swarm_service_pb2.AddTasksRequest:
    """Tasks that take so long, and write a line into the record at the beginning and another one at the end."""
    command = f'say() {{ echo "$SWARM_TASK_ID $SWARM_ATTEMPT $1" >>{record_of(daemon)}; }}; '
    command += f"say start; sleep {seconds}; say end"
    return swarm_service_pb2.AddTasksRequest(
        swarm_id="s",
        request_id="load",
        arrays=[array_pb2.Array(array_id=1, command=command)],
        task_resources=[task_pb2.TaskResources(task_resources_id=1)],
        tasks=[
            task_pb2.Task(task_id=task_id, array_id=1, task_resources_id=1, max_attempts=1)
            for task_id in range(1, count + 1)
        ],
    )


def create_and_load(daemon: RestartedDaemon, stubs: Stubs, count: int, seconds: float, gateway: str = "local") -> None:
    stubs.swarms.CreateSwarm(create_request(gateway, autopilot=gateway == "local"), timeout=SECONDS)
    stubs.swarms.AddTasks(iter([tasks_request(daemon, count, seconds)]), timeout=SECONDS)


def swarm_of(stubs: Stubs) -> swarm_pb2.Swarm:
    return stubs.swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(swarm_id="s"), timeout=SECONDS).swarm


def statuses_of(stubs: Stubs) -> dict[int, tuple[int, int]]:
    """Status and attempt of every task."""
    request = swarm_service_pb2.ListTasksRequest(swarm_id="s", page_size=1000)
    tasks = stubs.swarms.ListTasks(request, timeout=SECONDS).tasks
    return {task.task_id: (task.status, task.attempt) for task in tasks}


def until_done(daemon: RestartedDaemon, count: int) -> None:
    with calling(daemon.address) as stubs:
        until(lambda: swarm_of(stubs).task_counts.done == count, f"{count} tasks are done", SECONDS)


# -- local tasks -------------------------------------------------------------------------------------------------------


def test_running_tasks_outlive_a_killed_daemon_and_are_done_once(daemon: RestartedDaemon):
    daemon.serve("--local-cores", "4")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 4, seconds=2.0)
    until(lambda: len(lines_of(daemon)) == 4, "four tasks have begun")
    daemon.kill()
    daemon.serve("--local-cores", "4")
    with calling(daemon.address) as stubs:
        assert {attempt for _, attempt in statuses_of(stubs).values()} == {1}
    until_done(daemon, 4)
    assert sorted(lines_of(daemon)) == sorted(f"{task} 1 {what}" for task in range(1, 5) for what in ("start", "end"))


def test_tasks_that_ended_while_no_daemon_was_there_are_done(daemon: RestartedDaemon):
    daemon.serve("--local-cores", "4")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 4, seconds=0.5)
    until(lambda: len(lines_of(daemon)) == 4, "four tasks have begun")
    daemon.kill()
    until(lambda: len(lines_of(daemon)) == 8, "they ended")
    daemon.serve("--local-cores", "4")
    until_done(daemon, 4)
    assert len(lines_of(daemon)) == 8


def test_autopilot_goes_on_after_a_kill_without_any_client(daemon: RestartedDaemon):
    daemon.serve("--local-cores", "1")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 12, seconds=0.1)
    until(lambda: len(lines_of(daemon)) >= 4, "some tasks have begun")
    daemon.kill()
    begun = {line.split()[0] for line in lines_of(daemon)}
    assert len(begun) < 12
    daemon.serve("--local-cores", "1")
    until(lambda: sum(line.endswith("end") for line in lines_of(daemon)) == 12, "all tasks ran, and nobody has called")
    assert len(lines_of(daemon)) == 24
    until_done(daemon, 12)


def test_a_stop_leaves_running_tasks_to_the_next_daemon(daemon: RestartedDaemon):
    daemon.serve("--local-cores", "2", "--on-stop", "leave")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 2, seconds=2.0)
    until(lambda: len(lines_of(daemon)) == 2, "two tasks have begun")
    assert daemon.stop() == 0
    assert len(lines_of(daemon)) == 2, "it did not wait for them"
    daemon.serve("--local-cores", "2")
    until_done(daemon, 2)
    assert sorted(lines_of(daemon)) == ["1 1 end", "1 1 start", "2 1 end", "2 1 start"]


def test_a_stop_that_kills_gives_running_tasks_back_to_be_run_again(daemon: RestartedDaemon):
    daemon.serve("--local-cores", "2", "--on-stop", "kill", "--kill-grace", "1")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 2, seconds=1.0)
    until(lambda: len(lines_of(daemon)) == 2, "two tasks have begun")
    assert daemon.stop() == 0
    time.sleep(1.2)
    assert sorted(lines_of(daemon)) == ["1 1 start", "2 1 start"], "they were killed"
    daemon.serve("--local-cores", "2")
    until_done(daemon, 2)
    ends = sorted(line for line in lines_of(daemon) if line.endswith("end"))
    assert ends == ["1 2 end", "2 2 end"], "an attempt that was stopped is no failure of its task"


def test_a_task_that_was_cancelled_and_not_ended_before_the_kill_is_ended_after_it(daemon: RestartedDaemon):
    daemon.crashing("--local-cores", "2", "--crash-at", "cancel.telling:1")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 2, seconds=4.0)
        until(lambda: len(lines_of(daemon)) == 2, "two tasks have begun")
        request = swarm_service_pb2.CancelTasksRequest(swarm_id="s", reason="by the test")
        request.selector.task_ids.append(1)
        with contextlib.suppress(grpc.RpcError):
            stubs.swarms.CancelTasks(request, timeout=SECONDS)
    assert daemon.process.wait(SECONDS) == -signal.SIGKILL
    daemon.serve("--local-cores", "2")
    with calling(daemon.address) as stubs:
        assert statuses_of(stubs)[1] == (task_pb2.TASK_STATUS_CANCELLED, 1)
    until(lambda: "2 1 end" in lines_of(daemon), "the other task ends")
    time.sleep(0.5)
    assert "1 1 end" not in lines_of(daemon)


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", [batch_pb2.BATCH_VIEW_BASIC, batch_pb2.BATCH_VIEW_FULL])
def test_a_repeated_tick_hands_out_the_same_batches_after_a_kill(daemon: RestartedDaemon, view: batch_pb2.BatchView):
    request = scheduler_pb.TickRequest(swarm_id="s", request_id="tick", view=view, max_batches=1)
    daemon.serve()
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 6, seconds=0, gateway="pull")
        answer = stubs.scheduler.Tick(request, timeout=SECONDS)
        revision = swarm_of(stubs).revision
    assert sorted(answer.batches[0].task_ids) == [1, 2, 3, 4, 5, 6]
    assert bool(answer.batches[0].tasks) == (view == batch_pb2.BATCH_VIEW_FULL)
    daemon.kill()
    daemon.serve()
    with calling(daemon.address) as stubs:
        assert stubs.scheduler.Tick(request, timeout=SECONDS) == answer
        assert swarm_of(stubs).revision == revision
        other = scheduler_pb.TickRequest(swarm_id="s", request_id="tick", max_batches=2)
        with pytest.raises(grpc.RpcError) as refused:
            stubs.scheduler.Tick(other, timeout=SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, "another request with the same id"


@pytest.mark.parametrize("point", ["commit.done@BatchesHandedOut", "tick.taken"])
def test_a_tick_that_nobody_was_answered_is_answered_by_the_next_daemon(daemon: RestartedDaemon, point: str):
    request = scheduler_pb.TickRequest(swarm_id="s", request_id="tick", view=batch_pb2.BATCH_VIEW_FULL)
    daemon.crashing("--crash-at", f"{point}:1")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 6, seconds=0, gateway="pull")
        with pytest.raises(grpc.RpcError):
            stubs.scheduler.Tick(request, timeout=SECONDS)
    daemon.process.wait(SECONDS)
    daemon.serve()
    with calling(daemon.address) as stubs:
        answer = stubs.scheduler.Tick(request, timeout=SECONDS)
        assert stubs.scheduler.Tick(request, timeout=SECONDS) == answer
    assert [task.task_id for batch in answer.batches for task in batch.tasks] == [1, 2, 3, 4, 5, 6]
    assert {task.attempt for batch in answer.batches for task in batch.tasks} == {1}


def test_a_repeated_create_and_load_do_nothing_after_a_kill(daemon: RestartedDaemon):
    create, load = create_request("pull"), tasks_request(daemon, 6)
    daemon.serve()
    with calling(daemon.address) as stubs:
        stubs.swarms.CreateSwarm(create, timeout=SECONDS)
        answer = stubs.swarms.AddTasks(iter([load]), timeout=SECONDS)
        before = swarm_of(stubs)
    daemon.kill()
    daemon.serve()
    with calling(daemon.address) as stubs:
        assert stubs.swarms.CreateSwarm(create, timeout=SECONDS).swarm.create_time == before.create_time
        assert stubs.swarms.AddTasks(iter([load]), timeout=SECONDS) == answer
        assert swarm_of(stubs) == before
        assert len(stubs.swarms.ListSwarms(swarm_service_pb2.ListSwarmsRequest(), timeout=SECONDS).swarms) == 1


# -- watching ----------------------------------------------------------------------------------------------------------


def watched(stubs: Stubs, after_revision: int, up_to: int) -> dict[int, state_pb2.TaskStatusGroup]:
    """The changes after one revision up to another: their first groups, by revision."""
    request = swarm_service_pb2.WatchSwarmRequest(swarm_id="s", after_revision=after_revision)
    changes: dict[int, state_pb2.TaskStatusGroup] = {}
    call = stubs.swarms.WatchSwarm(request, timeout=SECONDS)
    for message in call:
        if message.HasField("change") and message.change.task_statuses:
            changes[message.revision] = message.change.task_statuses[0]
        if message.revision >= up_to:
            call.cancel()
            return changes
    raise AssertionError("the watch ended")


def report(stubs: Stubs, task_ids: range, status: task_pb2.TaskStatus) -> int:
    """One change a task; gives the revision after the last."""
    updates = (
        scheduler_pb.ApplyUpdateRequest(
            swarm_id="s",
            update=state_pb2.StateUpdate(
                task_statuses=[state_pb2.TaskStatusGroup(status=status, task_ids=[task_id], attempts=[1])]
            ),
        )
        for task_id in task_ids
    )
    return max(answer.revision for answer in stubs.scheduler.ApplyUpdate(updates, timeout=SECONDS))


def test_a_watch_goes_on_over_a_kill_without_a_gap(daemon: RestartedDaemon):
    daemon.serve()
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 20, seconds=0, gateway="pull")
        stubs.scheduler.Tick(scheduler_pb.TickRequest(swarm_id="s"), timeout=SECONDS)
        begun = swarm_of(stubs).revision
        killed = report(stubs, range(1, 11), RUNNING)
        seen = watched(stubs, begun, begun + 4)
        last = max(seen)
    daemon.kill()
    daemon.serve()
    with calling(daemon.address) as stubs:
        assert swarm_of(stubs).revision == killed
        end = report(stubs, range(11, 21), RUNNING)
        seen |= watched(stubs, last, end)
    assert list(seen) == list(range(begun + 1, end + 1))
    assert [task_id for group in seen.values() for task_id in group.task_ids] == list(range(1, 21))


def test_a_watch_whose_changes_are_in_a_snapshot_now_is_told_so(daemon: RestartedDaemon):
    daemon.crashing("--snapshot-after", "500")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 20, seconds=0, gateway="pull")
        stubs.scheduler.Tick(scheduler_pb.TickRequest(swarm_id="s"), timeout=SECONDS)
        begun = swarm_of(stubs).revision
        end = report(stubs, range(1, 21), RUNNING)
        folder = daemon.home / "state" / "swarmd" / "swarms" / "s"
        until(lambda: list(folder.glob("snapshot-*.bin")), "there is a snapshot")
    daemon.kill()
    daemon.crashing("--snapshot-after", NEVER)
    with calling(daemon.address) as stubs:
        assert swarm_of(stubs).revision == end
        with pytest.raises(grpc.RpcError) as gone:
            watched(stubs, begun - 1, end)
    assert gone.value.code() is grpc.StatusCode.OUT_OF_RANGE


# -- starting ----------------------------------------------------------------------------------------------------------


def health_of(stubs: Stubs) -> int:
    """What the health service says of ours, as soon as it answers."""
    check = stubs.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    request = health_pb2.HealthCheckRequest(service="swarm.v1.SwarmService")
    answer: health_pb2.HealthCheckResponse = check(request, timeout=SECONDS, wait_for_ready=True)
    return answer.status


def reason_of(error: grpc.RpcError) -> str:
    """The constant for programs in an error's details."""
    status = rpc_status.from_call(cast("grpc.Call", error))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(info)
    return str(info.reason)


def test_until_the_journal_is_read_it_answers_that_it_starts(daemon: RestartedDaemon):
    daemon.serve()
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 6, seconds=0, gateway="pull")
    daemon.kill()
    daemon.launch_crashing("--slow-recovery", "2")
    with calling(daemon.address) as stubs:
        assert health_of(stubs) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as refused:
            swarm_of(stubs)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "reads its journal" in str(refused.value.details())
        assert reason_of(refused.value) == "STARTING"
        daemon.until_ready()
        assert health_of(stubs) == health_pb2.HealthCheckResponse.SERVING
        assert swarm_of(stubs).task_counts.total == 6


def test_a_second_daemon_on_the_same_directory_is_told_who_has_it(daemon: RestartedDaemon):
    daemon.serve()
    with restarted(daemon.home) as other:
        state = str(daemon.home / "state" / "swarmd")
        other.launch(*SERVE, "--listen", f"unix:{daemon.home}/other.sock", "--state-dir", state)
        assert other.process.wait(SECONDS) == 2
    said = daemon.log.splitlines()[-1]
    assert f"a daemon (process {daemon.process.pid}) has {state} already" in said
    assert not (daemon.home / "other.sock").exists()
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 6, seconds=0, gateway="pull")
    daemon.kill()
    daemon.serve()
    with calling(daemon.address) as stubs:
        assert swarm_of(stubs).task_counts.total == 6, "a dead daemon has nothing"


def test_swarms_in_memory_are_said_to_be_and_are_gone(daemon: RestartedDaemon):
    daemon.serve("--in-memory")
    with calling(daemon.address) as stubs:
        create_and_load(daemon, stubs, 6, seconds=0, gateway="pull")
        assert swarm_of(stubs).in_memory
    assert "swarms are kept in memory: they are gone when the daemon ends" in daemon.log
    daemon.kill()
    daemon.serve()
    with calling(daemon.address) as stubs:
        assert not stubs.swarms.ListSwarms(swarm_service_pb2.ListSwarmsRequest(), timeout=SECONDS).swarms
        create_and_load(daemon, stubs, 6, seconds=0, gateway="pull")
        assert not swarm_of(stubs).in_memory
