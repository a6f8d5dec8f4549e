"""SwarmService: creates, loads, shows and changes swarms. Watching is in `watch.py`, lists of tasks in `listing.py`."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import grpc
from google.protobuf.message import DecodeError

from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd._pb.swarm.v1 import swarm_service_pb2_grpc
from swarmd.core.columns import TaskColumns
from swarmd.core.errors import LimitExceededError
from swarmd.core.events import Configured
from swarmd.core.loading import Load, check_limit
from swarmd.core.model import Array, TaskResources
from swarmd.core.update import StateUpdate
from swarmd.host.registry import Registry
from swarmd.host.requests import fingerprint
from swarmd.host.swarm import HostedSwarm
from swarmd.rpc import answers
from swarmd.rpc.listing import list_swarms, list_tasks
from swarmd.rpc.streams import OpenStreams
from swarmd.rpc.watch import SharedMessages, watch
from swarmd.wire import from_proto
from swarmd.wire.chunks import LoadChunk

READERS = {"/swarm.v1.SwarmService/AddTasks": LoadChunk}
"""Methods whose messages are read otherwise than into protobuf's objects."""

Context = grpc.aio.ServicerContext[object, object]


class SwarmServicer(swarm_service_pb2_grpc.SwarmServiceServicer):
    """Unpacks, calls and answers."""

    def __init__(self, registry: Registry, streams: OpenStreams) -> None:
        self._registry = registry
        self._streams = streams
        self._shared = SharedMessages()

    async def CreateSwarm(self, request: pb.CreateSwarmRequest, context: Context) -> pb.CreateSwarmResponse:  # noqa: N802
        """Make a swarm, once for each request_id."""
        del context
        from_proto.check_swarm(request.swarm, self._registry.limits.texts)
        settings = from_proto.swarm_settings(request.swarm)
        asked = fingerprint(request.swarm.SerializeToString(deterministic=True))
        swarm = await self._registry.created.once(
            request.request_id, asked, lambda: self._registry.create(settings, request.request_id, asked)
        )
        return pb.CreateSwarmResponse(swarm=await answers.swarm(swarm))

    async def GetSwarm(self, request: pb.GetSwarmRequest, context: Context) -> pb.GetSwarmResponse:  # noqa: N802
        """One swarm with its counts."""
        del context
        return pb.GetSwarmResponse(swarm=await answers.swarm(self._registry.get(request.swarm_id), request.view))

    async def ListSwarms(self, request: pb.ListSwarmsRequest, context: Context) -> pb.ListSwarmsResponse:  # noqa: N802
        """A page of swarms."""
        del context
        return await list_swarms(self._registry, request)

    async def UpdateSwarm(self, request: pb.UpdateSwarmRequest, context: Context) -> pb.UpdateSwarmResponse:  # noqa: N802
        """Change limits and switches: all that is asked, or nothing when any of it is wrong."""
        del context
        fields = from_proto.updated_fields(request)
        swarm, wanted = self._registry.get(request.swarm.swarm_id), request.swarm
        update = StateUpdate()
        if "max_concurrently_running" in fields:
            limit = from_proto.swarm_limit(wanted)
            check_limit("swarm.max_concurrently_running", limit)
            update.max_concurrently_running = limit
        if "workflow_run_status" in fields:
            status = from_proto.run_status(wanted.workflow_run_status, "swarm.workflow_run_status")
            update.workflow_run_status = status
        swarm.limits.texts.check("label", wanted.display_name, "swarm.display_name")
        await swarm.configure(
            Configured(
                paused=wanted.paused if "paused" in fields else None,
                fail_fast=wanted.fail_fast if "fail_fast" in fields else None,
                autopilot=wanted.autopilot if "autopilot" in fields else None,
                display_name=wanted.display_name if "display_name" in fields else None,
                update=update,
            )
        )
        return pb.UpdateSwarmResponse(swarm=await answers.swarm(swarm))

    async def DeleteSwarm(self, request: pb.DeleteSwarmRequest, context: Context) -> pb.DeleteSwarmResponse:  # noqa: N802
        """Forget a swarm."""
        del context
        await self._registry.delete(request.swarm_id, force=request.force)
        return pb.DeleteSwarmResponse()

    async def AddTasks(  # type: ignore[override]  # noqa: N802 - its messages are read by READERS
        self, request_iterator: AsyncIterator[LoadChunk], context: Context
    ) -> pb.AddTasksResponse:
        """Load chunks as one unit, once for each request_id."""
        self._registry.refuse_when_draining()
        loading = _Loading(self._registry)
        async for chunk in self._streams.requests(request_iterator):
            await loading.take(chunk)
        await self._streams.confirm_end(context)
        swarm, load = await loading.complete()
        request_id = loading.request_id
        asked = await asyncio.to_thread(_asked, load) if request_id else ""
        answer = await swarm.loads.once(request_id, asked, lambda: swarm.load(load, request_id, asked))
        return pb.AddTasksResponse(
            task_count=answer.task_count,
            array_count=answer.array_count,
            task_resources_count=answer.task_resources_count,
            newly_ready_count=answer.newly_ready_count,
            revision=answer.revision,
        )

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:  # noqa: N802
        """One task."""
        del context
        swarm = self._registry.get(request.swarm_id)
        return pb.GetTaskResponse(task=answers.task_as_run(swarm, swarm.state.task(request.task_id)))

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:  # noqa: N802
        """A page of tasks."""
        del context
        return await list_tasks(self._registry.get(request.swarm_id), request)

    async def ExplainTask(self, request: pb.ExplainTaskRequest, context: Context) -> pb.ExplainTaskResponse:  # noqa: N802
        """Why a task is not running."""
        del context
        swarm = self._registry.get(request.swarm_id)
        found = swarm.explain(request.task_id)
        return answers.explanation(swarm, found)

    async def CancelTasks(self, request: pb.CancelTasksRequest, context: Context) -> pb.CancelTasksResponse:  # noqa: N802
        """End tasks for good."""
        del context
        swarm = self._registry.get(request.swarm_id)
        swarm.limits.texts.check("reason", request.reason, "reason")
        change = await swarm.cancel(from_proto.selector(request.selector), request.reason)
        return pb.CancelTasksResponse(
            cancelled_count=change.changed_count, final_count=change.left_alone_count, revision=change.revision
        )

    async def ResetTasks(self, request: pb.ResetTasksRequest, context: Context) -> pb.ResetTasksResponse:  # noqa: N802
        """Take final tasks back."""
        del context
        swarm = self._registry.get(request.swarm_id)
        swarm.limits.texts.check("reason", request.reason, "reason")
        change = await swarm.reset(
            from_proto.selector(request.selector),
            include_downstreams=request.include_downstreams,
            reason=request.reason,
        )
        return pb.ResetTasksResponse(
            reset_count=change.changed_count,
            not_final_count=change.left_alone_count,
            newly_ready_count=change.newly_ready_count,
            revision=change.revision,
        )

    async def WatchSwarm(  # noqa: N802
        self, request: pb.WatchSwarmRequest, context: Context
    ) -> AsyncIterator[pb.WatchSwarmResponse]:
        """A snapshot, then every change."""
        del context
        async for message in watch(self._registry.get(request.swarm_id), request, self._shared):
            yield cast("pb.WatchSwarmResponse", message)  # what many are sent is encoded already


def _asked(load: Load) -> str:
    """What a load asks for, as a fingerprint."""
    tasks = load.tasks
    columns = (tasks.task_ids, tasks.array_ids, tasks.task_resources_ids, tasks.upstream_counts, tasks.upstream_ids)
    numbers = (*columns, tasks.priorities, tasks.max_attempts, tasks.statuses, tasks.attempts)
    known = repr((list(load.arrays), list(load.task_resources), tasks.scale_sets)).encode()
    return fingerprint(known, *(each.tobytes() for each in numbers), tasks.names.data, tasks.commands.data)


class _Loading:
    """The chunks of one load while they come in."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._swarm: HostedSwarm | None = None
        self._arrays: list[Array] = []
        self._task_resources: list[TaskResources] = []
        self._parts: list[TaskColumns] = []
        self._count = 0
        self.request_id = ""

    async def take(self, chunk: LoadChunk) -> None:
        """One chunk, with a turn for others now and then. The first names the swarm; a later one no other."""
        try:
            for _ in chunk.open():
                await asyncio.sleep(0)
            self._take_others(chunk.others, len(chunk))
            parts = []
            for part in chunk.parts():
                parts.append(part)
                await asyncio.sleep(0)
            if parts:
                self._parts.append(TaskColumns.joined(parts))
        except DecodeError:
            raise from_proto.malformed() from None

    def _take_others(self, request: pb.AddTasksRequest, tasks: int) -> None:
        """All of a chunk but its tasks, of which there are so many."""
        swarm = self._swarm
        if swarm is None:
            swarm = self._swarm = self._registry.get(request.swarm_id)
            self.request_id = request.request_id
        elif request.swarm_id and request.swarm_id != swarm.swarm_id:
            raise from_proto.other_swarm(request.swarm_id, swarm.swarm_id)
        self._count += tasks
        limit = swarm.limits.max_tasks
        if self._count + swarm.state.task_count > limit and not self.request_id:
            message = f"tasks: more than max_tasks_per_swarm {limit} allows"
            raise LimitExceededError(message, reason="TOO_MANY_TASKS", metadata={"limit": "max_tasks_per_swarm"})
        self._arrays += [from_proto.array(each) for each in request.arrays]
        self._task_resources += [from_proto.task_resources(each) for each in request.task_resources]

    async def complete(self) -> tuple[HostedSwarm, Load]:
        """The swarm and all chunks together, joined in another thread: a million tasks take a while."""
        swarm = self._swarm or self._registry.get("")
        parts, self._parts = self._parts or [TaskColumns.of([], [], [])], []
        tasks = await asyncio.to_thread(TaskColumns.joined, parts)
        return swarm, Load(self._arrays, self._task_resources, tasks)
