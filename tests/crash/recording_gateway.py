"""RecordingGateway: the way from a daemon that a test may kill to the RecordingEngine in the test's own process."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarmd.core.batch import Batch
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.gateways.contract import (
    Capabilities,
    FindOutcome,
    Found,
    QueueOutcome,
    Refusal,
    Report,
    ServerGateway,
)
from swarmd.journal.faults import reach

BATCH_SIZE = 4


class RecordingGateway(ServerGateway):
    """Hands batches to the engine behind a socket. It reaches points of its own: around the word to the engine."""

    name = "recording"
    capabilities = Capabilities(largest_batch=BATCH_SIZE, can_find=True, can_cancel=True)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self, report: Report) -> None:
        self._report = report
        reader, self._writer = await asyncio.open_unix_connection(self._path)
        self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._writer.close()

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        tasks = [(task.task_id, task.attempt, task.command) for task in batch.tasks()]
        reach("engine.asking")
        answer = await self._ask("queue", batch.swarm_id, batch=batch.batch_id, tasks=tasks)
        reach("engine.answered")
        return QueueOutcome([Refusal(answer["refused"], "not now")] if answer["refused"] else ())

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        for batch in batches:
            await self._ask("look", batch.swarm_id, attempts=_attempts_of(batch))
        for batch in cancelled:
            await self._ask("cancel", batch.swarm_id, attempts=_attempts_of(batch))

    async def find_batch(self, batch: Batch) -> FindOutcome:
        answer = await self._ask("find", batch.swarm_id, batch=batch.batch_id)
        if not answer["found"]:
            return FindOutcome(Found.NOT_QUEUED)
        missing = [task_id for task_id in batch.task_ids.tolist() if task_id not in answer["taken"]]
        return FindOutcome(Found.QUEUED, [Refusal(missing, "not now")] if missing else ())

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        reach("engine.cancelling")
        await self._ask("cancel", swarm_id, attempts=list(zip(task_ids, attempts, strict=True)))

    async def _ask(self, call: str, swarm_id: str, **what: object) -> dict[str, Any]:
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        request = {"call": call, "number": number, "swarm": swarm_id, **what}
        self._writer.write(json.dumps(request).encode() + b"\n")
        if call == "queue":
            reach("engine.told")
        return await answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "number" in message:
                self._answers.pop(message["number"]).set_result(message)
            else:
                self._report(message["swarm"], _update_of(message["news"]))


def _attempts_of(batch: Batch) -> list[tuple[int, int]]:
    return list(zip(batch.task_ids.tolist(), batch.attempts.tolist(), strict=True))


def _update_of(news: list[tuple[int, int, str]]) -> StateUpdate:
    update = StateUpdate(TaskStatuses())
    for task_id, attempt, status in news:
        update.task_statuses.add(TaskStatus(status), [task_id], [attempt])
    return update
