"""What travels between the daemon and an engine: batches there, news back."""

from collections.abc import Iterator, Sequence

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd._pb.swarm.v1 import state_pb2, task_pb2
from swarmd.core.batch import Batch, TaskSpec
from swarmd.core.model import MAX_REASON_BYTES
from swarmd.core.update import StateUpdate, StatusGroup, TaskStatuses
from swarmd.gateways.contract import Refusal, SwarmInfo
from swarmd.gateways.remote.complaints import Complaints
from swarmd.wire import from_proto, to_proto
from swarmd.wire.names import TASK_STATUS_FROM_PB

TASKS_BYTES = 3_900_000
"""The most that the tasks of one QueueBatch may need: with all the rest it is below the 4 MiB that servers of gRPC take
by default. What does not fit comes back, and goes with the next batch. It cannot be set: after a restart the daemon
must know which tasks of a batch in doubt were in the message."""
TASK_BYTES = 64
"""What a task needs beside its name and its command, at most."""
TOO_LARGE = "the batch is larger than one message; the rest goes with the next batch"
IDS_AT_ONCE = 20_000
"""News of more tasks is applied in several steps, so that others have their turn."""


def queue_request(wire_id: str, swarm: SwarmInfo, batch: Batch) -> tuple[pb.QueueBatchRequest, list[int]]:
    """The batch in the FULL view, and the tasks of it that do not fit: always the same ones for the same batch."""
    directory = "" if swarm.working_directory is None else str(swarm.working_directory)
    environment = {**swarm.environment, "SWARM_ID": batch.swarm_id}
    request = pb.QueueBatchRequest(swarm_id=wire_id, working_directory=directory, environment=environment)
    message = request.batch
    message.batch_id = batch.batch_id
    message.array_id = batch.array_id
    message.array_name = batch.array.name
    message.task_resources_id = batch.task_resources.task_resources_id
    message.task_resources.CopyFrom(to_proto.task_resources(batch.task_resources))
    message.priority = batch.priority
    specs = batch.tasks()
    fits = _fitting(specs)
    add = message.tasks.add
    for spec in specs[:fits]:
        add(task_id=spec.task_id, name=spec.name, command=spec.command, attempt=spec.attempt)
    message.task_ids.extend(batch.task_ids[:fits].tolist())
    message.attempts.extend(batch.attempts[:fits].tolist())
    return request, batch.task_ids[fits:].tolist()


def left_out(batch: Batch) -> list[int]:
    """The tasks of a batch that did not fit into its message."""
    missing: list[int] = batch.task_ids[_fitting(batch.tasks()) :].tolist()
    return missing


def _fitting(specs: Sequence[TaskSpec]) -> int:
    """How many tasks fit, from the first on. One always does: a command has 128 KiB at most."""
    if 4 * sum([len(spec.name) + len(spec.command) for spec in specs]) + TASK_BYTES * len(specs) <= TASKS_BYTES:
        return len(specs)  # no character has more bytes
    left = TASKS_BYTES
    for place, spec in enumerate(specs):
        left -= TASK_BYTES + _size(spec.name) + _size(spec.command)
        if left < 0:
            return place
    return len(specs)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def refusals_of(messages: Sequence[pb.TaskRefusal], batch: Batch, not_sent: Sequence[int]) -> list[Refusal]:
    """What the engine did not take, of this batch only, and what it was not given."""
    known = set(batch.task_ids.tolist()).difference(not_sent)
    refusals = []
    for message in messages:
        ids = [task_id for task_id in message.task_ids if task_id in known]
        if ids:
            refusals.append(Refusal(ids, message.reason or "refused by the engine", message.permanent))
    if not_sent:
        refusals.append(Refusal(not_sent, TOO_LARGE))
    return refusals


def cancel_request(
    wire_id: str, attempts: Sequence[tuple[int, int]], reason: str
) -> pb.GatewayServiceCancelTasksRequest:
    """The attempts to end: pairs of a task and its attempt."""
    return pb.GatewayServiceCancelTasksRequest(
        swarm_id=wire_id,
        task_ids=[task_id for task_id, _ in attempts],
        attempts=[attempt for _, attempt in attempts],
        reason=reason,
    )


def news_of(message: state_pb2.StateUpdate, complaints: Complaints) -> Iterator[StateUpdate]:
    """What an engine tells, in pieces that hold nobody up. What cannot be used of it is left out, and complained about.

    Raises InvalidInputError when nothing of it can.
    """
    for place in reversed(range(len(message.task_statuses))):
        group = message.task_statuses[place]
        problem = _problem(group)
        if problem:
            complaints.about_news(problem, group.task_ids)
            del message.task_statuses[place]
        elif len(group.reason) * 4 > MAX_REASON_BYTES:
            group.reason = group.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
    update = from_proto.state_update(message)
    groups = update.task_statuses.groups
    if sum(len(group.task_ids) for group in groups) <= IDS_AT_ONCE:
        yield update
        return
    update.task_statuses = TaskStatuses()
    yield update
    for piece in _pieces(groups):
        yield StateUpdate(TaskStatuses([piece]))


def _problem(group: state_pb2.TaskStatusGroup) -> str:
    if group.status == task_pb2.TASK_STATUS_CANCELLED or group.status not in TASK_STATUS_FROM_PB:
        return f"the status {group.status} is nothing that happens to a task at an engine"
    if len(group.attempts) != len(group.task_ids) or min(group.attempts, default=1) < 1:
        return "it does not say of each task which attempt it is about (attempts, beside task_ids)"
    return ""


def _pieces(groups: Sequence[StatusGroup]) -> Iterator[StatusGroup]:
    for group in groups:
        for start in range(0, len(group.task_ids), IDS_AT_ONCE):
            part = slice(start, start + IDS_AT_ONCE)
            attempts = None if group.attempts is None else group.attempts[part]
            yield StatusGroup(group.status, group.task_ids[part], attempts, group.reason)
