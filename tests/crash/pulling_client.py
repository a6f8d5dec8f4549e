"""A client of the pull gateway that may be killed at any moment, as a program: it ticks, runs and reports.

    python -m tests.crash.pulling_client ADDRESS HOME SECONDS

It writes down what it is going to ask before it asks, so that it can ask the same again after a kill. An attempt that
it had begun and not ended then is over: it says so, and never runs it again.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from swarmd._pb.swarm.v1 import batch_pb2, state_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from tests.crash.restarting import CHANNEL_OPTIONS
from tests.crash.torture import FAILING, SWARM, read_record

T = TypeVar("T")

SECONDS = 30.0
RETRY_SECONDS = 0.05
MOST_BATCHES = 3
STATUS_OF = {
    "done": task_pb2.TASK_STATUS_DONE,
    "failed": task_pb2.TASK_STATUS_ERROR_RECOVERABLE,
    "lost": task_pb2.TASK_STATUS_ERROR_RECOVERABLE,
}


class PullingClient:
    """One at a time has a home."""

    def __init__(self, channel: grpc.aio.Channel, home: Path, seconds: float) -> None:
        self._stub = SchedulerServiceStub(channel)
        self._seconds = seconds
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._asked = home / "asked"
        self._asked_file = os.open(self._asked, flags, 0o600)
        self._record = home / "record"
        self._record_file = os.open(self._record, flags, 0o600)
        self._before: dict[tuple[int, int], str] = {}
        """What the record says of attempts that earlier clients had."""

    async def work(self) -> None:
        """Until the swarm is finished."""
        self._before = {(each.task_id, each.attempt): each.event for each in read_record(self._record)}
        for number in self._unanswered():
            await self._tick(number)
        number = self._last()
        while not (await self._persistently(self._has_work)).finished:
            number += 1
            os.write(self._asked_file, f"{number} asked\n".encode())
            await self._tick(number)

    def _unanswered(self) -> list[int]:
        """The ticks of earlier clients that nobody has seen through to the end."""
        lines = [line.split() for line in self._asked.read_text().splitlines()]
        over = {int(number) for number, what in lines if what == "over"}
        return [int(number) for number, what in lines if what == "asked" and int(number) not in over]

    def _last(self) -> int:
        return max((int(line.split()[0]) for line in self._asked.read_text().splitlines()), default=0)

    async def _has_work(self) -> pb.HasWorkResponse:
        request = pb.HasWorkRequest(swarm_id=SWARM)
        request.wait.FromSeconds(5)
        return await self._stub.HasWork(request, timeout=SECONDS)

    async def _tick(self, number: int) -> None:
        """One tick and everything that follows from it."""
        request = pb.TickRequest(swarm_id=SWARM, request_id=f"tick-{number}", max_batches=MOST_BATCHES)
        request.view = batch_pb2.BATCH_VIEW_FULL
        answer = await self._persistently(lambda: self._stub.Tick(request, timeout=SECONDS))
        tasks = [task for batch in answer.batches for task in batch.tasks]
        await asyncio.gather(*(self._run(task) for task in tasks))
        os.write(self._asked_file, f"{number} over\n".encode())

    async def _run(self, task: batch_pb2.BatchTask) -> None:
        known = self._before.get((task.task_id, task.attempt))
        if known is None:
            self._note(task, "start")
            await self._tell(task, task_pb2.TASK_STATUS_RUNNING)
            await asyncio.sleep(self._seconds)
            known = "failed" if task.task_id % FAILING == 0 and task.attempt == 1 else "done"
            self._note(task, known)
        elif known == "start":
            known = "lost"
            self._note(task, known)
        await self._tell(task, STATUS_OF[known])

    def _note(self, task: batch_pb2.BatchTask, event: str) -> None:
        os.write(self._record_file, f"{task.task_id} {task.attempt} {event} {time.time_ns()}\n".encode())

    async def _tell(self, task: batch_pb2.BatchTask, status: task_pb2.TaskStatus) -> None:
        group = state_pb2.TaskStatusGroup(status=status, task_ids=[task.task_id], attempts=[task.attempt])
        update = state_pb2.StateUpdate(task_statuses=[group])

        async def requests() -> AsyncIterator[pb.ApplyUpdateRequest]:
            yield pb.ApplyUpdateRequest(swarm_id=SWARM, update=update)

        async def told() -> None:
            async for answer in self._stub.ApplyUpdate(requests(), timeout=SECONDS):
                if answer.error.message:
                    raise ValueError(answer.error.message)
                return
            raise ConnectionError("the stream ended without an answer")

        await self._persistently(told)

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Again and again, until a daemon answers."""
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
            except ConnectionError:
                pass
            await asyncio.sleep(RETRY_SECONDS)


async def main(address: str, home: str, seconds: str) -> None:
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        await PullingClient(channel, Path(home), float(seconds)).work()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
