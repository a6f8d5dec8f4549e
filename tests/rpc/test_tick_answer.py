"""The bytes of a tick's answer are the message that says the same field by field."""

import asyncio
from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from swarmd._pb.swarm.v1 import batch_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd.core.batch import Batch, BatchResult
from swarmd.core.model import Array, TaskResources
from swarmd.core.status import TaskStatus
from swarmd.core.table import Table
from swarmd.core.update import TaskStatuses
from swarmd.gateways.contract import Refusal
from swarmd.host.ticks import TickAnswer
from swarmd.outcomes import Outcomes, TickUpdate, outcome_of
from swarmd.rpc.tick_answer import tick_answer
from swarmd.wire import to_proto

ids = st.lists(st.integers(1, 1 << 40), min_size=1, max_size=8, unique=True)
attempts = st.integers(1, 300)


@st.composite
def answers(draw: st.DrawFn) -> TickAnswer:
    """What ticks come to: batches that were taken, in part or wholly, refused, and in doubt."""
    outcomes = Outcomes()
    for number in range(draw(st.integers(0, 4))):
        batch = a_batch(number, draw(ids), draw(attempts))
        how = draw(st.sampled_from(["taken", "refused", "in part", "for good", "doubt"]))
        if how == "doubt":
            outcomes.results.append(BatchResult({}, len(batch), 1, batch.batch_id, error="in doubt: ?", in_doubt=True))
            continue
        refused = {"taken": 0, "refused": len(batch)}.get(how, len(batch) // 2)
        refusals = [Refusal(batch.task_ids[:refused].tolist(), "füll", permanent=how == "for good")] if refused else []
        outcomes.add(outcome_of(batch, refusals)[0])
    update = outcomes.as_update(timed_out=draw(st.booleans()))
    update.max_concurrently_running = draw(st.none() | st.integers(0, 5))
    return TickAnswer(update, draw(st.integers(0, 1 << 31 - 1)), draw(st.integers(0, 1 << 40)))


def a_batch(number: int, task_ids: list[int], attempt: int) -> Batch:
    columns = np.array(task_ids, dtype=np.int64), np.full(len(task_ids), attempt, dtype=np.int32)
    nowhere = np.zeros(len(task_ids), dtype=np.int32), np.zeros(len(task_ids), dtype=np.int64)
    array, resources = Array(number), TaskResources(number + 7)
    return Batch("s", f"s-{number}", array, resources, number - 2, *columns, *nowhere, cast("Table", None))


def expected(answer: TickAnswer) -> pb.TickResponse:
    update = answer.update
    message = pb.TickResponse(
        update=to_proto.state_update(update),
        timed_out=update.timed_out,
        ready_to_run_count=answer.ready_count,
        revision=answer.revision,
    )
    for result in update.batch_results:
        message.batch_results.add(
            batch_id=result.batch_id,
            array_id=result.array_id,
            batch_size=result.batch_size,
            task_statuses=[to_proto.group(each) for each in TaskStatuses(result.task_statuses).groups],
            error=result.error,
            in_doubt=result.in_doubt,
        )
    for batch in update.batches:
        message.batches.append(
            batch_pb2.Batch(
                batch_id=batch.batch_id,
                array_id=batch.array_id,
                task_resources_id=batch.task_resources.task_resources_id,
                priority=batch.priority,
                task_ids=batch.task_ids.tolist(),
                attempts=batch.attempts.tolist(),
            )
        )
    return message


@given(answer=answers())
def test_the_bytes_are_the_message(answer: TickAnswer):
    assert pb.TickResponse.FromString(asyncio.run(tick_answer(answer))) == expected(answer)


def test_an_update_in_another_order_than_the_batches_is_told_as_it_is():
    one, other = a_batch(1, [5, 4], 1), a_batch(2, [900, 7], 3)
    statuses = TaskStatuses()
    statuses.add(TaskStatus.QUEUED, [900, 7, 5, 4], [3, 3, 1, 1])
    answer = TickAnswer(TickUpdate(statuses, batches=[one, other]), 0, 1)
    assert pb.TickResponse.FromString(asyncio.run(tick_answer(answer))) == expected(answer)
