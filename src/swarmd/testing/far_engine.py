"""What a gateway keeps to whose engine can be away: a server that is restarted, a controller that does not answer."""

import asyncio
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from swarmd.core.batch import Batch
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, Found, OutcomeUnknownError, QueueOutcome, ServerGateway
from swarmd.testing.contract import LOOK_SECONDS, SILENCE_SECONDS, GatewayContract, refused_by
from swarmd.testing.recording import SWARM, Record, batch_of


class FarEngineContract(GatewayContract):
    """Derive as from `GatewayContract`, and say how the engine is taken away."""

    @abstractmethod
    def engine_away(self) -> AbstractAsyncContextManager[None]:
        """Inside of it the engine cannot be reached; what it has runs on, or comes to an end."""

    async def placed(self, gateway: ServerGateway, batch: Batch, record: Record) -> list[int]:
        """Queue a batch as the daemon does it, and give the tasks of it that the engine has for certain."""
        try:
            refused = refused_by(await gateway.queue_batch(batch) or QueueOutcome())
        except BatchRefusedError:
            return []
        except (OutcomeUnknownError, TimeoutError):
            outcome = await self.found(gateway, batch, record)
            if outcome.found is Found.NOT_QUEUED:
                return []
            refused = refused_by(outcome)
        return [task_id for task_id in batch.task_ids.tolist() if task_id not in refused]

    async def test_a_batch_that_meets_no_engine_runs_once_when_it_is_back(
        self, gateway: ServerGateway, record: Record, tmp_path: Path
    ) -> None:
        command = self.noting(tmp_path / "noted") or self.SUCCEEDS
        async with self.engine_away():
            placing = asyncio.create_task(self.placed(gateway, batch_of(command, command), record))
            await asyncio.wait([placing], timeout=SILENCE_SECONDS)
        taken = await placing
        attempt = 1
        async with asyncio.timeout(record.patience):
            while len(taken) < 2:
                attempt += 1
                missing = [task_id for task_id in (1, 2) if task_id not in taken]
                for task_id in missing:
                    taken += await self.placed(gateway, batch_of(command, first_id=task_id, attempt=attempt), record)
                await asyncio.sleep(LOOK_SECONDS)
        await record.ended(1, 2)
        await asyncio.sleep(SILENCE_SECONDS)
        assert [record.end_of(task_id)[0] for task_id in (1, 2)] == [TaskStatus.DONE] * 2
        if self.noting(tmp_path):
            assert self.times_noted(tmp_path / "noted") == 2

    async def test_what_ends_while_the_engine_is_away_is_heard_of(self, gateway: ServerGateway, record: Record) -> None:
        await gateway.queue_batch(batch_of(self.SUCCEEDS, self.FAILS))
        async with self.engine_away():
            await asyncio.sleep(SILENCE_SECONDS)
        await record.ended(1, 2)
        assert record.end_of(1)[0] is TaskStatus.DONE
        assert record.end_of(2)[0] is TaskStatus.ERROR_RECOVERABLE

    async def test_what_is_cancelled_while_the_engine_is_away_ends_in_silence(
        self, gateway: ServerGateway, record: Record, cancels: None, tmp_path: Path
    ) -> None:
        await gateway.queue_batch(batch_of(self._noting_for_ever(tmp_path / "noted")))
        await self._until_noted(tmp_path / "noted", record)
        async with self.engine_away():
            telling = asyncio.create_task(gateway.cancel_tasks(SWARM, [1], [1], "by the test"))
            await asyncio.wait([telling], timeout=SILENCE_SECONDS)
        async with asyncio.timeout(record.patience):
            await telling
        await self._until_silent(tmp_path / "noted", record)
        assert record.ended_ids() == set()

    async def test_a_daemon_that_begins_without_its_engine_hears_everything_later(
        self, record: Record, tmp_path: Path
    ) -> None:
        swarm = self.swarm("kept", token="4f0c")
        gateway = await self.next_gateway(tmp_path, record, swarm)
        batch = batch_of(*[self.SUCCEEDS] * 4, swarm_id="kept")
        await gateway.queue_batch(batch)
        await gateway.close()
        later = Record()
        later.patience = record.patience
        gateway = self.make_gateway(tmp_path)
        try:
            async with self.engine_away():
                await gateway.start(later.report)
                taking_up = asyncio.create_task(self._taken_up(gateway, batch))
                await asyncio.wait([taking_up], timeout=SILENCE_SECONDS)
            async with asyncio.timeout(record.patience):
                await taking_up
            await later.ended(*(task_id for task_id in range(1, 5) if not record.ends_of(task_id, 1, "kept")))
        finally:
            await gateway.close()

    async def _taken_up(self, gateway: ServerGateway, batch: Batch) -> None:
        """As the daemon does it: again and again, until the gateway does not raise."""
        is_taken_up = False
        while not is_taken_up:
            with suppress(Exception):
                await gateway.add_swarm(self.swarm("kept", token="4f0c"))
                await gateway.resume([batch])
                is_taken_up = True
            await asyncio.sleep(LOOK_SECONDS)
