"""An engine that does what a test tells it: the gateway of the tests of the scheduler, the host and the RPCs."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from swarmd.core.batch import Batch
from swarmd.gateways.contract import (
    Capabilities,
    FindOutcome,
    Found,
    QueueOutcome,
    Refusal,
    Report,
    ServerGateway,
    SwarmInfo,
)

Answer = QueueOutcome | None
Behaviour = Callable[[Batch], Awaitable[Answer]]


@dataclass(frozen=True)
class Cancellation:
    """One call of cancel_tasks."""

    task_ids: list[int]
    attempts: list[int]
    reason: str


class Engine(ServerGateway):
    """Takes everything, unless `behaviour` says otherwise, and remembers what it was asked."""

    name = "engine"

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        can_find: bool = False,
        can_cancel: bool = False,
        largest_batch: int = 500,
        hands_out: bool = False,
    ) -> None:
        self.behaviour = behaviour
        self.capabilities = Capabilities(
            largest_batch=largest_batch, can_find=can_find, can_cancel=can_cancel, hands_out=hands_out
        )
        self.batches: list[Batch] = []
        self.calls_now = 0
        self.most_at_once = 0
        self.answers: list[FindOutcome | Exception] = []
        """What find_batch says, one after the other; the last one again and again. Empty: it cannot say."""
        self.asked: list[str] = []
        self.cancelled: list[Cancellation] = []
        self.swarms: dict[str, SwarmInfo] = {}
        self.report: Report | None = None
        self.closed = False

    @property
    def offered(self) -> list[list[int]]:
        """The task ids of every batch that it was offered, in the order of the calls."""
        return [batch.task_ids.tolist() for batch in self.batches]

    async def start(self, report: Report) -> None:
        self.report = report

    async def close(self) -> None:
        self.closed = True

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        self.swarms[swarm.swarm_id] = swarm

    async def remove_swarm(self, swarm_id: str) -> None:
        self.swarms.pop(swarm_id, None)

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        self.batches.append(batch)
        self.calls_now += 1
        self.most_at_once = max(self.most_at_once, self.calls_now)
        try:
            return await self.behaviour(batch) if self.behaviour else None
        finally:
            self.calls_now -= 1

    async def find_batch(self, batch: Batch) -> FindOutcome:
        self.asked.append(batch.batch_id)
        if not self.answers:
            return FindOutcome(Found.UNKNOWN)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        self.cancelled.append(Cancellation(list(task_ids), list(attempts), reason))


class Gate:
    """A behaviour that holds every call until the test opens it; then the call ends as `outcome` says."""

    def __init__(self, outcome: Answer | BaseException = None) -> None:
        self.outcome = outcome
        self.opened = asyncio.Event()

    async def __call__(self, batch: Batch) -> Answer:
        await self.opened.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def open(self) -> None:
        self.opened.set()


def raising(error: BaseException) -> Behaviour:
    """Every call raises this."""

    async def behave(batch: Batch) -> Answer:
        raise error

    return behave


def refusing(*task_ids: int, why: str = "full", permanent: bool = False) -> Behaviour:
    """These tasks are refused wherever they come, the others are taken."""

    async def behave(batch: Batch) -> Answer:
        mine = [task_id for task_id in batch.task_ids.tolist() if task_id in task_ids]
        return QueueOutcome([Refusal(mine, why, permanent=permanent)]) if mine else None

    return behave


async def settled(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Let the loop go on until a condition holds."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for has no bell
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s for: {what}") from None
