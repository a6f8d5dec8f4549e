"""The example engines of `clients/`, as processes that are killed: what docs/remote-engines.md asks of an engine."""

import asyncio
import contextlib
import itertools
import random
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import batch_pb2
from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd._pb.swarm.v1.gateway_service_pb2_grpc import GatewayServiceStub
from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, Found, OutcomeUnknownError, SwarmInfo
from tests.crash.torture import Plan, tortured
from tests.daemon import short_home, until
from tests.gateways.recording import SWARM, batch_of, eventually, file_with_text, is_alive
from tests.gateways.remote.conftest import DURABLE, config_for
from tests.gateways.remote.engines import BUILD_SECONDS, NO_GO, EngineProcess, has_go

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 300)


@contextlib.contextmanager
def calling(engine: EngineProcess) -> Iterator[GatewayServiceStub]:
    with grpc.insecure_channel(engine.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        grpc.channel_ready_future(channel).result(20)
        yield GatewayServiceStub(channel)


def request_for(batch_id: str, *commands: str, first_id: int = 1) -> pb.QueueBatchRequest:
    tasks = [
        batch_pb2.BatchTask(task_id=task_id, attempt=1, command=command)
        for task_id, command in enumerate(commands, first_id)
    ]
    ids = [task.task_id for task in tasks]
    batch = batch_pb2.Batch(batch_id=batch_id, array_id=7, task_ids=ids, attempts=[1] * len(ids), tasks=tasks)
    return pb.QueueBatchRequest(swarm_id=SWARM, batch=batch)


# -- running -----------------------------------------------------------------------------------------------------------


async def test_a_command_knows_which_attempt_it_is(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    names = ("SWARM_ID", "SWARM_TASK_ID", "SWARM_ATTEMPT", "SWARM_TASK_NAME", "SWARM_ARRAY_ID")
    say = " ".join(f"${name}" for name in names)
    await gateway.queue_batch(batch_of(f'echo "{say}" >{tmp_path}/said', first_id=5, attempt=3, name="fit"))
    await record.ended(5)
    assert (tmp_path / "said").read_text() == f"{SWARM} 5 3 fit 7\n"


async def test_a_command_starts_where_the_swarm_says_and_with_its_environment(example, gateways, record, tmp_path):
    (tmp_path / "here").mkdir()
    info = replace(
        DURABLE, working_directory=tmp_path / "here", environment={"SEED": "4 $HOME 'x'", "PATH": "/bin:/usr/bin"}
    )
    gateway = await gateways.begin(config_for(example.address), record.report, info)
    await gateway.queue_batch(batch_of('echo "$SEED $PATH" >said'))
    await record.ended(1)
    assert (tmp_path / "here" / "said").read_text() == "4 $HOME 'x' /bin:/usr/bin\n"


async def test_a_folder_that_is_not_there_fails_the_attempt_with_words(example, gateways, record, tmp_path):
    info = replace(DURABLE, working_directory=tmp_path / "nowhere")
    gateway = await gateways.begin(config_for(example.address), record.report, info)
    await gateway.queue_batch(batch_of("true"))
    await record.ended(1)
    status, reason = record.end_of(1)
    assert status is TaskStatus.ERROR_RECOVERABLE
    assert "could not be started" in reason
    assert "nowhere" in reason


async def test_what_no_process_can_be_given_fails_the_attempt_and_not_the_engine(example, gateways, record):
    info = replace(DURABLE, working_directory=Path("/a\0b"))
    sound = SwarmInfo("sound", token="t", working_directory=Path("/"))
    gateway = await gateways.begin(config_for(example.address), record.report, info, sound)
    await gateway.queue_batch(batch_of("true"))
    await record.ended(1)
    status, reason = record.end_of(1)
    assert status is TaskStatus.ERROR_RECOVERABLE
    assert "could not be started" in reason
    await gateway.queue_batch(batch_of("true", first_id=2, swarm_id="sound"))
    await record.ended(2)
    assert record.end_of(2) == (TaskStatus.DONE, "")


async def test_why_a_task_failed_is_told(example, gateways, record):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of("echo working; echo no such model >&2; exit 3"))
    await record.ended(1)
    assert record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3\nno such model")


async def test_a_task_that_runs_too_long_is_ended_and_gets_more_next_time(example, gateways, record):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    resources = TaskResources(1, runtime_seconds=0.5)
    await gateway.queue_batch(batch_of("sleep 100", resources=resources))
    await record.ended(1)
    status, reason = record.end_of(1)
    assert status is TaskStatus.ADJUSTING_RESOURCES
    assert "longer than the 0.5 s" in reason


async def test_what_can_never_run_there_is_refused_for_good(example, gateways, record):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    outcome = await gateway.queue_batch(batch_of("true", "true", resources=TaskResources(1, cores=5)))
    (refusal,) = outcome.refusals
    assert refusal.permanent
    assert list(refusal.task_ids) == [1, 2]
    assert "cores: 5 are more than the 4" in refusal.reason


async def test_no_more_run_at_once_than_there_are_cores(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    command = f"echo + >>{tmp_path}/record; sleep 0.1; echo - >>{tmp_path}/record"
    await gateway.queue_batch(batch_of(*[command] * 12, resources=TaskResources(1, cores=2)))
    await record.ended(*range(1, 13))
    steps = [{"+": 1, "-": -1}[line] for line in (tmp_path / "record").read_text().split()]
    assert max(itertools.accumulate(steps)) == 2


# -- batches -----------------------------------------------------------------------------------------------------------


def test_the_same_batch_again_gets_the_same_answer_and_runs_nothing_twice(example, tmp_path):
    request = request_for("b", f"echo ran >>{tmp_path}/record", "a\0b")
    answers = []
    for _ in range(3):
        with calling(example) as stub:
            answers += [stub.QueueBatch(request, timeout=20), stub.QueueBatch(request, timeout=20)]
        example.start()
    assert all(answer == answers[0] for answer in answers)
    assert [list(refusal.task_ids) for refusal in answers[0].refusals] == [[2]]
    until(lambda: (tmp_path / "record").exists(), "the task")
    time.sleep(0.3)
    assert (tmp_path / "record").read_text() == "ran\n"


def test_a_batch_that_was_asked_after_before_it_came_is_never_taken(example, tmp_path):
    request = request_for("late", f"touch {tmp_path}/ran")
    with calling(example) as stub:
        answer = stub.FindBatch(pb.FindBatchRequest(swarm_id=SWARM, batch_id="late"), timeout=20)
        assert answer.outcome == pb.FindBatchResponse.OUTCOME_NOT_QUEUED
    example.start()
    with calling(example) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.QueueBatch(request, timeout=20)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    time.sleep(0.2)
    assert not (tmp_path / "ran").exists()


def test_a_batch_that_was_taken_is_found_after_a_kill(example):
    with calling(example) as stub:
        stub.QueueBatch(request_for("b", "true", "a\0b"), timeout=20)
    example.start()
    with calling(example) as stub:
        answer = stub.FindBatch(pb.FindBatchRequest(swarm_id=SWARM, batch_id="b"), timeout=20)
    assert answer.outcome == pb.FindBatchResponse.OUTCOME_QUEUED
    assert [list(refusal.task_ids) for refusal in answer.refusals] == [[2]]


def test_a_batch_without_its_commands_is_refused(example):
    request = request_for("b", "true")
    del request.batch.tasks[:]
    with calling(example) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.QueueBatch(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# -- kills -------------------------------------------------------------------------------------------------------------


async def test_what_runs_outlives_the_engine_and_is_seen_to_its_end_by_the_next(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    wait = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    say = f"echo $SWARM_TASK_ID >>{tmp_path}/record"
    await gateway.queue_batch(batch_of(f"{say}; {wait}", f"{say}; {wait}; exit 4", say))
    await record.running(1, 2)
    example.kill()
    (tmp_path / "go").touch()
    example.start()
    await record.ended(1, 2, 3)
    assert record.end_of(1) == (TaskStatus.DONE, "")
    assert record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "exit code 4")
    assert sorted((tmp_path / "record").read_text().split()) == ["1", "2", "3"]


async def test_what_ended_while_no_engine_was_there_is_told_by_the_next(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of(f"sleep 0.3; echo ended >{tmp_path}/said"))
    await record.running(1)
    example.kill()
    await file_with_text(tmp_path / "said")
    example.start()
    await record.ended(1)
    assert record.end_of(1) == (TaskStatus.DONE, "")


async def test_a_task_that_was_killed_with_the_engine_has_failed(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of(f"echo $PPID >{tmp_path}/pid; sleep 100"))
    await file_with_text(tmp_path / "pid")
    example.close()
    await eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())))
    example.start()
    await record.ended(1)
    status, reason = record.end_of(1)
    assert status is TaskStatus.ERROR_RECOVERABLE
    assert reason.startswith("it was killed")


async def test_an_exit_code_for_which_there_is_no_room_is_waited_for(example, gateways, record, tmp_path):
    """A folder in its place stands for the disk that is full."""
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(
        batch_of(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo ran >>{tmp_path}/record")
    )
    await record.running(1)
    await eventually(lambda: list((example.home / "engine" / "runs").glob("*/*/started")))
    (folder,) = (example.home / "engine" / "runs").glob("*/*")
    (folder / "exit.new").mkdir()
    (tmp_path / "go").touch()
    await file_with_text(tmp_path / "record")
    example.start()
    await asyncio.sleep(0.5)
    assert record.ended_ids() == set()
    (folder / "exit.new").rmdir()
    await record.ended(1)
    assert record.end_of(1) == (TaskStatus.DONE, "")
    assert (tmp_path / "record").read_text() == "ran\n"


async def test_an_exit_code_that_a_loss_of_power_took_away_is_no_success(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of(f"echo ran >>{tmp_path}/record; sleep 100"))
    await file_with_text(tmp_path / "record")
    example.close()
    (folder,) = (example.home / "engine" / "runs").glob("*/*")
    (folder / "exit").touch()
    as_after_another_boot(example.home / "engine")
    example.start()
    await record.ended(1)
    assert record.end_of(1)[0] is TaskStatus.ERROR_RECOVERABLE
    await gateway.queue_batch(batch_of("true", first_id=2))
    await record.ended(2)


async def test_after_a_restart_of_the_machine_nothing_runs_a_second_time(example, gateways, record, tmp_path):
    """Its files may be older than what happened: they are taken away here, as a loss of power does it."""
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of(f"echo ran >>{tmp_path}/record; sleep 100"))
    await file_with_text(tmp_path / "record")
    example.close()
    for folder in (example.home / "engine" / "runs").glob("*/*"):
        shutil.rmtree(folder)
    as_after_another_boot(example.home / "engine")
    example.start()
    await record.ended(1)
    assert record.end_of(1)[0] is TaskStatus.ERROR_RECOVERABLE
    assert (tmp_path / "record").read_text() == "ran\n"


async def test_a_start_that_a_kill_prevented_is_made_up_for(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of(f"echo ran >>{tmp_path}/record; sleep 100"))
    await file_with_text(tmp_path / "record")
    example.close()
    for folder in (example.home / "engine" / "runs").glob("*/*"):
        shutil.rmtree(folder)  # as if it had never come to its process
    example.start()
    await eventually(lambda: (tmp_path / "record").read_text() == "ran\nran\n")


def as_after_another_boot(state: Path) -> None:
    """What the engine knows is from before the machine was started."""
    if (state / "engine.jsonl").exists():
        text = (state / "engine.jsonl").read_text()
        (state / "engine.jsonl").write_text(re.sub('"Boot":"[^"]+"', '"Boot":"another"', text))
    else:
        with contextlib.closing(sqlite3.connect(state / "engine.db", isolation_level=None)) as database:
            database.execute("UPDATE attempts SET boot = 'another'")


async def test_a_cancel_counts_for_the_next_engine_as_well(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    stubborn = f"trap '' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.05; done"
    await gateway.queue_batch(batch_of(stubborn))
    await file_with_text(tmp_path / "pid")
    await gateway.cancel_tasks(SWARM, [1], [1], "by the test")
    example.start()
    await eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())))
    await eventually(lambda: not gateway.standing(SWARM, 2, 1))
    await gateway.queue_batch(batch_of("true", first_id=2))
    await record.ended(2)
    assert record.ended_ids() == {2}


async def test_what_waits_when_it_is_cancelled_never_runs(example, gateways, record, tmp_path):
    gateway = await gateways.begin(config_for(example.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of(*["sleep 0.5"] * 4, f"touch {tmp_path}/ran", "true"))
    await gateway.cancel_tasks(SWARM, [5], [1], "by the test")
    await record.ended(1, 2, 3, 4, 6)
    assert not (tmp_path / "ran").exists()


def test_a_stop_leaves_what_runs_alone(example, tmp_path):
    with calling(example) as stub:
        stub.QueueBatch(request_for("b", f"sleep 0.5; touch {tmp_path}/ran"), timeout=20)
    until(lambda: list((example.home / "engine" / "runs").glob("*/*/started")), "the task runs")
    assert example.stop() == 0
    until(lambda: (tmp_path / "ran").exists(), "the task")


def test_two_engines_never_have_the_same_state(example, maker):
    with short_home() as other:
        second = EngineProcess(example.command, other)
        second.launch("--state", str(example.home / "engine"))
        until(lambda: second.has_ended, "the second one ends")
        assert "another engine has" in second.log


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_engine_and_gateway_are_killed_and_every_task_runs_once(maker, home, gateways, seed, tmp_path):
    """The gateway is that of a daemon that comes back: it goes on where its folder says."""
    chance = random.Random(seed)
    everything = list(range(1, 61))
    ended: dict[int, list[TaskStatus]] = {task_id: [] for task_id in everything}

    def report(swarm_id, update):
        for group in update.task_statuses.groups:
            if group.status is TaskStatus.DONE:
                for task_id in group.task_ids.tolist():
                    ended[task_id].append(group.status)

    batches = [
        batch_of(*[f"sleep 0.05; echo $SWARM_TASK_ID >>{tmp_path}/record"] * 20, first_id=first)
        for first in everything[::20]
    ]
    waiting = list(batches)
    with maker(home, cores=4) as engine:
        engine.start()
        gateway = await gateways.begin(config_for(engine.address), report, DURABLE)
        for _ in range(200):
            if waiting and await _is_taken(gateway, waiting[0]):
                waiting.pop(0)
            if not waiting and all(ended.values()):
                break
            choice = chance.random()
            if choice < 0.1:
                engine.launch()
            elif choice < 0.2:
                await gateway.close()
                gateway = await gateways.begin(config_for(engine.address), report, DURABLE)
            await asyncio.sleep(chance.uniform(0.0, 0.3))
    assert all(ended.values())
    times = Counter((tmp_path / "record").read_text().split())
    assert times == {str(task_id): 1 for task_id in everything}


async def _is_taken(gateway, batch) -> bool:
    """Queue it, or ask what became of it, until one of both says; False when it came back."""
    try:
        await gateway.queue_batch(batch)
        return True
    except BatchRefusedError:
        return False
    except OutcomeUnknownError:
        while True:
            found = (await gateway.find_batch(batch)).found
            if found is not Found.UNKNOWN:
                assert found is Found.QUEUED, "a batch is not offered again under the same id"
                return True


@pytest.mark.e2e
@pytest.mark.parametrize(
    "engine", ["remote", pytest.param("remote-go", marks=pytest.mark.skipif(not has_go(), reason=NO_GO))]
)
@pytest.mark.parametrize("seed", [11])
def test_a_daemon_and_its_engine_are_killed_and_every_task_is_done_once(engine: str, seed: int):
    outcome = tortured(Plan(engine, seed=seed, tasks=160, kills=8, seconds=15, sleep=0.1))
    assert list(outcome.problems()) == []
    assert outcome.kills >= 4
