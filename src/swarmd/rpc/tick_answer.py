"""The answer of a tick as bytes: the message that it is, with its many ids and attempts packed by columns."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from swarmd._pb.swarm.v1 import batch_pb2, state_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd.core.batch import Batch, BatchResult
from swarmd.core.status import TaskStatus
from swarmd.core.update import StatusGroup, TaskStatuses
from swarmd.host.ticks import TickAnswer
from swarmd.outcomes import TickUpdate
from swarmd.wire import to_proto
from swarmd.wire.names import TASK_STATUS_TO_PB
from swarmd.wire.packing import Packed, field, submessage

BATCHES_AT_ONCE = 50
_BATCH_IDS, _BATCH_ATTEMPTS = batch_pb2.Batch.TASK_IDS_FIELD_NUMBER, batch_pb2.Batch.ATTEMPTS_FIELD_NUMBER
_GROUP_IDS = state_pb2.TaskStatusGroup.TASK_IDS_FIELD_NUMBER
_GROUP_ATTEMPTS = state_pb2.TaskStatusGroup.ATTEMPTS_FIELD_NUMBER
_UPDATE_GROUPS = state_pb2.StateUpdate.TASK_STATUSES_FIELD_NUMBER
_RESULT_GROUPS = batch_pb2.BatchResult.TASK_STATUSES_FIELD_NUMBER
_UPDATE, _RESULTS = pb.TickResponse.UPDATE_FIELD_NUMBER, pb.TickResponse.BATCH_RESULTS_FIELD_NUMBER
_BATCHES = pb.TickResponse.BATCHES_FIELD_NUMBER


async def tick_answer(answer: TickAnswer) -> bytes:
    """A TickResponse, its batches with ids and attempts only. Others have their turn in the middle of a large one."""
    update = answer.update
    rest = pb.TickResponse(timed_out=update.timed_out, ready_to_run_count=answer.ready_count, revision=answer.revision)
    results = [(result, TaskStatuses(result.task_statuses).groups) for result in update.batch_results]
    packed = _packed(update, [group for _, groups in results for group in groups])
    if len(update.batches) > BATCHES_AT_ONCE:
        await asyncio.sleep(0)
    parts = [rest.SerializeToString(), submessage(_UPDATE, _state_update(update, packed))]
    parts += [_result(result, groups, packed) for result, groups in results]
    parts += [_batch(batch, packed) for batch in update.batches]
    return b"".join(parts)


def _packed(update: TickUpdate, groups: Sequence[StatusGroup]) -> Packed:
    """All columns of the answer. The update names the tasks of the batches once more, mostly in the same order."""
    packed = Packed()
    packed.add_all([*(batch.task_ids for batch in update.batches), *(group.task_ids for group in groups)])
    packed.add_all(
        [
            *(batch.attempts for batch in update.batches),
            *(group.attempts for group in groups if group.attempts is not None),
        ]
    )
    for group in update.task_statuses.groups:
        packed.add_joined(group.task_ids, [batch.task_ids for batch in update.batches])
        if group.attempts is not None:
            packed.add_joined(group.attempts, [batch.attempts for batch in update.batches])
    return packed


def _state_update(update: TickUpdate, packed: Packed) -> bytes:
    rest = to_proto.state_update(replace(update, task_statuses=TaskStatuses())).SerializeToString()
    return b"".join((rest, *(_group(_UPDATE_GROUPS, group, packed) for group in update.task_statuses.groups)))


def _group(number: int, group: StatusGroup, packed: Packed) -> bytes:
    attempts = b"" if group.attempts is None else field(_GROUP_ATTEMPTS, packed.of(group.attempts))
    ids = field(_GROUP_IDS, packed.of(group.task_ids))
    return submessage(number, _group_head(group.status, group.reason), ids, attempts)


@lru_cache(maxsize=64)
def _group_head(status: TaskStatus, reason: str) -> bytes:
    return state_pb2.TaskStatusGroup(status=TASK_STATUS_TO_PB[status], reason=reason).SerializeToString()


def _result(result: BatchResult, groups: Sequence[StatusGroup], packed: Packed) -> bytes:
    rest = batch_pb2.BatchResult(
        batch_id=result.batch_id,
        array_id=result.array_id,
        batch_size=result.batch_size,
        error=result.error,
        in_doubt=result.in_doubt,
    )
    statuses = (_group(_RESULT_GROUPS, group, packed) for group in groups)
    return submessage(_RESULTS, rest.SerializeToString(), *statuses)


def _batch(batch: Batch, packed: Packed) -> bytes:
    rest = batch_pb2.Batch(
        batch_id=batch.batch_id,
        array_id=batch.array_id,
        task_resources_id=batch.task_resources.task_resources_id,
        priority=batch.priority,
    )
    ids, attempts = field(_BATCH_IDS, packed.of(batch.task_ids)), field(_BATCH_ATTEMPTS, packed.of(batch.attempts))
    return submessage(_BATCHES, rest.SerializeToString(), ids, attempts)
