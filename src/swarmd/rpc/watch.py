"""WatchSwarm: a snapshot, then every change in order, signs of life, and a last word that says how to go on."""

from collections.abc import AsyncIterator, Iterable, Iterator
from weakref import WeakKeyDictionary

from google.protobuf.timestamp_pb2 import Timestamp

from swarmd._pb.swarm.v1 import state_pb2
from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd.core.change import Change
from swarmd.core.errors import LimitExceededError
from swarmd.core.update import StatusGroup
from swarmd.host.feed import DELETED, FeedClosedError, SlowWatcherError
from swarmd.host.swarm import HostedSwarm
from swarmd.rpc import answers
from swarmd.wire import from_proto, to_proto
from swarmd.wire.names import OUTCOME_TO_PB, RUN_STATUS_TO_PB

DEFAULT_PROGRESS_SECONDS = 10.0
SHORTEST_PROGRESS_SECONDS = 0.05
IDS_A_MESSAGE = 100_000


SHARED_IDS = 10_000
"""A change of more tasks is encoded for each watcher: it would stay in memory, and its watchers are not as quick."""


class SharedMessages:
    """The latest change of each swarm as it is sent: all who watch it get the same bytes, which are made once."""

    def __init__(self) -> None:
        self._latest: WeakKeyDictionary[HostedSwarm, tuple[Change, bytes]] = WeakKeyDictionary()

    def of(self, swarm: HostedSwarm, change: Change) -> Iterable[pb.WatchSwarmResponse | bytes]:
        """One change as one message, or as several when it has very many tasks."""
        known = self._latest.get(swarm)
        if known is not None and known[0] is change:
            return (known[1],)
        if sum(len(group.task_ids) for group in change.task_statuses) > SHARED_IDS:
            return _messages(swarm, change)
        (message,) = _messages(swarm, change)
        encoded = message.SerializeToString()
        self._latest[swarm] = change, encoded
        return (encoded,)


async def watch(
    swarm: HostedSwarm, request: pb.WatchSwarmRequest, shared: SharedMessages
) -> AsyncIterator[pb.WatchSwarmResponse | bytes]:
    """The messages of one watch. Raises RevisionGoneError when it cannot be resumed from where it is asked to."""
    interval = DEFAULT_PROGRESS_SECONDS
    if request.HasField("progress_interval"):
        asked = from_proto.seconds(request.progress_interval, "progress_interval")
        interval = max(SHORTEST_PROGRESS_SECONDS, asked)
    if request.HasField("after_revision"):
        revision = request.after_revision
        swarm.feed.check_resumable(revision)
    else:
        snapshot = await answers.swarm(swarm, answers.FULL)
        revision = snapshot.revision
        yield pb.WatchSwarmResponse(
            revision=revision, event_time=_now(swarm), snapshot=pb.WatchSnapshot(swarm=snapshot)
        )
    if request.until_finished and swarm.state.finished and revision == swarm.state.revision:
        yield _end(swarm, revision, pb.WatchEnd.REASON_FINISHED)
        return
    try:
        async for change in swarm.feed.follow(revision, interval):
            if change is None:
                yield _progress(swarm, revision)
                continue
            for message in shared.of(swarm, change):
                yield message
            revision = change.revision
            if change.finished and request.until_finished:
                yield _end(swarm, revision, pb.WatchEnd.REASON_FINISHED)
                return
    except SlowWatcherError as slow:
        yield _end(swarm, revision, pb.WatchEnd.REASON_SLOW_WATCHER)
        raise _too_slow(slow.limit, revision) from None
    except FeedClosedError as closed:
        reason = pb.WatchEnd.REASON_DELETED if closed.why == DELETED else pb.WatchEnd.REASON_DRAINING
        yield _end(swarm, revision, reason)


def _messages(swarm: HostedSwarm, change: Change) -> Iterator[pb.WatchSwarmResponse]:
    """One change as one message, or as several when it has very many tasks.

    All but the last carry the revision before it, so that whoever resumes from any of them misses nothing.
    """
    parts = list(_parted(change.task_statuses))
    for part in parts[:-1]:
        message = pb.WatchSwarmResponse(revision=change.revision - 1, event_time=to_proto.timestamp(change.at))
        message.change.task_statuses.extend(part)
        message.change.active_count = change.active_count
        yield message
    last = pb.WatchSwarmResponse(revision=change.revision, event_time=to_proto.timestamp(change.at))
    _fill(last.change, swarm, change, parts[-1] if parts else [])
    yield last


def _fill(message: pb.WatchChange, swarm: HostedSwarm, change: Change, groups: list[state_pb2.TaskStatusGroup]) -> None:
    message.task_statuses.extend(groups)
    message.added_task_count = change.added_task_count
    message.added_arrays.extend(to_proto.array(each, each.max_concurrently_running) for each in change.added_arrays)
    if change.max_concurrently_running is not None:
        message.max_concurrently_running = change.max_concurrently_running
    message.array_limits.extend(to_proto.limits(change.array_limits))
    if change.run_status is not None:
        message.workflow_run_status = RUN_STATUS_TO_PB[change.run_status]
    if change.settings_changed:
        message.swarm.CopyFrom(answers.swarm_settings(swarm))
    message.active_count = change.active_count
    message.finished = change.finished


def _parted(groups: list[StatusGroup]) -> Iterator[list[state_pb2.TaskStatusGroup]]:
    """The groups in messages of at most so many ids."""
    part: list[state_pb2.TaskStatusGroup] = []
    used = 0
    for group in groups:
        for start in range(0, max(1, len(group.task_ids)), IDS_A_MESSAGE):
            end = start + IDS_A_MESSAGE
            attempts = None if group.attempts is None else group.attempts[start:end]
            piece = to_proto.group(StatusGroup(group.status, group.task_ids[start:end], attempts, group.reason))
            if part and used + len(piece.task_ids) > IDS_A_MESSAGE:
                yield part
                part, used = [], 0
            part.append(piece)
            used += len(piece.task_ids)
    if part:
        yield part


def _progress(swarm: HostedSwarm, revision: int) -> pb.WatchSwarmResponse:
    counts = to_proto.counts(swarm.state.counts())
    progress = pb.WatchProgress(task_counts=counts)
    return pb.WatchSwarmResponse(revision=revision, event_time=_now(swarm), progress=progress)


def _end(swarm: HostedSwarm, revision: int, reason: pb.WatchEnd.Reason) -> pb.WatchSwarmResponse:
    end = pb.WatchEnd(reason=reason, resume_revision=revision, outcome=OUTCOME_TO_PB[swarm.state.outcome])
    return pb.WatchSwarmResponse(revision=revision, event_time=_now(swarm), end=end)


def _too_slow(limit: int, revision: int) -> LimitExceededError:
    """What the stream ends with after its last word."""
    setting = "max_queued_bytes_per_watcher"
    message = f"{setting}: {limit} bytes of changes wait for this watcher; read faster, and resume after {revision}"
    metadata = {"limit": setting, "resume_revision": str(revision)}
    return LimitExceededError(message, reason="SLOW_WATCHER", metadata=metadata)


def _now(swarm: HostedSwarm) -> Timestamp | None:
    return to_proto.timestamp(swarm.now())
