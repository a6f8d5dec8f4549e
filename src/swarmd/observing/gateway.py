"""A gateway whose calls somebody observes: passes everything on, and tells how long it took and what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

from swarmd.core.batch import Batch
from swarmd.gateways.contract import (
    BatchRefusedError,
    FindOutcome,
    OutcomeUnknownError,
    QueueOutcome,
    Report,
    ServerGateway,
    SwarmInfo,
)
from swarmd.observing.observer import Observer


@final
class ObservedGateway(ServerGateway):
    """Looks to the scheduler like the gateway that is behind it."""

    def __init__(self, gateway: ServerGateway, observer: Observer) -> None:
        self._gateway = gateway
        self._observer = observer
        self.name = gateway.name
        self.capabilities = gateway.capabilities

    async def trouble(self) -> str:
        return await self._gateway.trouble()

    async def obstacle(self) -> str:
        return await self._gateway.obstacle()

    def swarm_trouble(self, swarm_id: str) -> str:
        return self._gateway.swarm_trouble(swarm_id)

    async def start(self, report: Report) -> None:
        await self._gateway.start(report)

    async def close(self) -> None:
        await self._gateway.close()

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        with self._observer.gateway_call(self.name, "add_swarm"):
            await self._gateway.add_swarm(swarm)

    async def swarm_finished(self, swarm_id: str, *, succeeded: bool) -> None:
        with self._observer.gateway_call(self.name, "swarm_finished"):
            await self._gateway.swarm_finished(swarm_id, succeeded=succeeded)

    def standing(self, swarm_id: str, task_id: int, attempt: int) -> str:
        return self._gateway.standing(swarm_id, task_id, attempt)

    def output_directory(self, swarm_id: str) -> Path | None:
        return self._gateway.output_directory(swarm_id)

    async def remove_swarm(self, swarm_id: str) -> None:
        with self._observer.gateway_call(self.name, "remove_swarm"):
            await self._gateway.remove_swarm(swarm_id)

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        outcome, refused = "failed", 0
        try:
            with self._observer.gateway_call(self.name, "queue_batch", batch):
                answer = await self._gateway.queue_batch(batch)
            if answer is not None:
                refused = sum(len(refusal.task_ids) for refusal in answer.refusals)
            outcome = "queued" if refused < len(batch) else "refused"
        except BatchRefusedError:
            outcome, refused = "refused", len(batch)
            raise
        except (OutcomeUnknownError, TimeoutError):
            outcome = "in_doubt"
            raise
        except BaseException:
            outcome = "in_doubt" if self.capabilities.can_find else "failed"
            raise
        finally:
            self._observer.batch_over(self.name, outcome, len(batch), refused)
        return answer

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        with self._observer.gateway_call(self.name, "resume"):
            await self._gateway.resume(batches, cancelled)

    async def find_batch(self, batch: Batch) -> FindOutcome:
        with self._observer.gateway_call(self.name, "find_batch", batch):
            return await self._gateway.find_batch(batch)

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        with self._observer.gateway_call(self.name, "cancel_tasks"):
            await self._gateway.cancel_tasks(swarm_id, task_ids, attempts, reason)
