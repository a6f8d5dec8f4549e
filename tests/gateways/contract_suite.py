"""What every gateway keeps to, whatever its engine: a test class for each derives from `GatewayContract`."""

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.core.batch import MAX_BATCH_SIZE
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import FindOutcome, Found, QueueOutcome, ServerGateway, SwarmInfo
from tests.gateways.recording import ENDS, SWARM, Record, batch_of


class GatewayContract(ABC):
    """Derive, make the gateway, and say how its engine's commands look."""

    SUCCEEDS = "true"
    FAILS = "false"
    TAKES_LONG = "sleep 100"

    @abstractmethod
    def make_gateway(self, folder: Path) -> ServerGateway:
        """A gateway that was not started."""

    @pytest_asyncio.fixture
    async def record(self):
        return Record()

    @pytest_asyncio.fixture
    async def gateway(self, tmp_path, record):
        gateway = self.make_gateway(tmp_path)
        await gateway.start(record.report)
        await gateway.add_swarm(SwarmInfo(SWARM))
        yield gateway
        await gateway.close()

    @pytest.fixture
    def runs_tasks(self, gateway):
        if gateway.capabilities.hands_out:
            pytest.skip("its tasks are run by whoever ticks")

    @pytest.fixture
    def cancels(self, gateway, runs_tasks):
        if not gateway.capabilities.can_cancel:
            pytest.skip("it cannot cancel")

    async def test_it_has_a_name_and_a_largest_batch(self, gateway):
        assert gateway.name
        assert 1 <= gateway.capabilities.largest_batch <= MAX_BATCH_SIZE

    async def test_a_batch_is_taken(self, gateway):
        outcome = await gateway.queue_batch(batch_of(self.SUCCEEDS, self.SUCCEEDS))
        assert outcome is None or not outcome.refusals

    async def test_refusals_name_tasks_of_the_batch_only(self, gateway):
        batch = batch_of(self.SUCCEEDS, "a\0b")
        outcome = await gateway.queue_batch(batch) or QueueOutcome()
        for refusal in outcome.refusals:
            assert set(refusal.task_ids) <= set(batch.task_ids.tolist())
            assert refusal.reason

    async def test_several_batches_are_taken_at_once(self, gateway):
        batches = [batch_of(*[self.SUCCEEDS] * 5, first_id=1 + 5 * number) for number in range(8)]
        for outcome in await asyncio.gather(*(gateway.queue_batch(batch) for batch in batches)):
            assert outcome is None or not outcome.refusals

    async def test_every_task_comes_to_one_end(self, gateway, record, runs_tasks):
        await gateway.queue_batch(batch_of(self.SUCCEEDS, self.FAILS, self.SUCCEEDS))
        await record.ended(1, 2, 3)
        assert record.end_of(1) == (TaskStatus.DONE, "")
        assert record.end_of(3) == (TaskStatus.DONE, "")
        status, reason = record.end_of(2)
        assert status is TaskStatus.ERROR_RECOVERABLE
        assert reason

    async def test_news_name_the_swarm_the_attempt_and_queued_tasks_only(self, gateway, record, runs_tasks):
        await gateway.queue_batch(batch_of(self.SUCCEEDS, self.FAILS, attempt=3))
        await record.ended(1, 2)
        assert {swarm_id for swarm_id, *_ in record.news} == {SWARM}
        assert {task_id for _, task_id, *_ in record.news} == {1, 2}
        assert {attempt for _, _, attempt, *_ in record.news} == {3}

    async def test_nothing_runs_again_after_its_end(self, gateway, record, runs_tasks):
        await gateway.queue_batch(batch_of(*[self.SUCCEEDS] * 20))
        await record.ended(*range(1, 21))
        for task_id in range(1, 21):
            assert record.statuses(task_id)[-1] in ENDS

    async def test_swarms_are_told_apart(self, gateway, record, runs_tasks):
        await gateway.add_swarm(SwarmInfo("other"))
        await gateway.queue_batch(batch_of(self.SUCCEEDS))
        await gateway.queue_batch(batch_of(self.FAILS, swarm_id="other"))
        await record.until(lambda: len([1 for *_, status, _ in record.news if status in ENDS]) == 2)
        ends = {swarm_id: status for swarm_id, _, _, status, _ in record.news if status in ENDS}
        assert ends == {SWARM: TaskStatus.DONE, "other": TaskStatus.ERROR_RECOVERABLE}

    async def test_what_is_cancelled_is_not_spoken_of(self, gateway, record, cancels):
        await gateway.queue_batch(batch_of(self.TAKES_LONG, self.TAKES_LONG))
        await record.running(1, 2)
        await gateway.cancel_tasks(SWARM, [1], [1], "by the test")
        await gateway.queue_batch(batch_of(self.SUCCEEDS, first_id=3))
        await record.ended(3)
        assert record.ended_ids() == {3}

    async def test_cancelling_what_is_over_or_unknown_is_no_error(self, gateway):
        await gateway.cancel_tasks(SWARM, [99], [1], "by the test")
        await gateway.cancel_tasks("never heard of", [1], [1], "by the test")

    async def test_a_removed_swarm_is_not_spoken_of(self, gateway, record, cancels):
        await gateway.queue_batch(batch_of(self.TAKES_LONG))
        await record.running(1)
        await gateway.remove_swarm(SWARM)
        await gateway.add_swarm(SwarmInfo("other"))
        await gateway.queue_batch(batch_of(self.SUCCEEDS, swarm_id="other", first_id=2))
        await record.ended(2)
        assert record.ended_ids() == {2}

    async def test_removing_an_unknown_swarm_is_no_error(self, gateway):
        await gateway.remove_swarm("never heard of")

    async def test_find_batch_always_has_an_answer(self, gateway):
        found = await gateway.find_batch(batch_of(self.SUCCEEDS))
        assert isinstance(found, FindOutcome)
        if not gateway.capabilities.can_find:
            assert found.found is Found.UNKNOWN

    async def test_nothing_is_said_after_close(self, gateway, record):
        await gateway.queue_batch(batch_of(*[self.SUCCEEDS] * 10))
        await gateway.close()
        said = len(record.updates)
        await asyncio.sleep(0.1)
        assert len(record.updates) == said

    async def test_close_twice_is_no_error(self, gateway):
        await gateway.close()
        await gateway.close()

    async def test_close_without_start_is_no_error(self, tmp_path):
        await self.make_gateway(tmp_path).close()
