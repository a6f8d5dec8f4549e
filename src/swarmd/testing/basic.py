"""What holds for every gateway there is, also for one that hands its batches out and runs nothing itself."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.core.batch import MAX_BATCH_SIZE
from swarmd.core.errors import InvalidInputError
from swarmd.gateways.contract import FindOutcome, Found, QueueOutcome, ServerGateway, SwarmInfo
from swarmd.testing.recording import SWARM, Record, batch_of


@pytest.mark.asyncio
class BasicContract(ABC):
    """What holds also for a gateway that hands its batches out, and runs nothing itself."""

    SUCCEEDS = "true"
    FAILS = "false"
    TAKES_LONG = "sleep 100"
    NEVER_RUNS = "a\0b"
    """What no engine can run."""

    @abstractmethod
    def make_gateway(self, folder: Path) -> ServerGateway:
        """A gateway that was not started. Made again with the same folder, it is that of the next daemon."""

    def swarm(self, swarm_id: str = SWARM, token: str = "") -> SwarmInfo:
        """A swarm as the gateway is told of it; with a token it outlives the daemon."""
        return SwarmInfo(swarm_id, token=token)

    @pytest_asyncio.fixture
    async def record(self) -> Record:
        """What the gateway says. Its `patience` is how long something is waited for."""
        return Record()

    @pytest_asyncio.fixture
    async def gateway(self, tmp_path: Path, record: Record) -> AsyncIterator[ServerGateway]:
        """It was started, and has one swarm."""
        gateway = self.make_gateway(tmp_path)
        await gateway.start(record.report)
        await gateway.add_swarm(self.swarm())
        yield gateway
        await gateway.close()

    # -- what it is --------------------------------------------------------------------------------------------------

    async def test_it_has_a_name_and_a_largest_batch(self, gateway: ServerGateway) -> None:
        assert gateway.name
        assert 1 <= gateway.capabilities.largest_batch <= MAX_BATCH_SIZE

    async def test_it_can_be_used_here(self, gateway: ServerGateway) -> None:
        assert await gateway.trouble() == ""

    async def test_it_can_be_asked_how_anything_stands(self, gateway: ServerGateway) -> None:
        await gateway.queue_batch(batch_of(self.SUCCEEDS))
        for swarm_id, task_id, attempt in ((SWARM, 1, 1), (SWARM, 1, 7), (SWARM, 99, 1), ("never heard of", 1, 1)):
            assert isinstance(gateway.standing(swarm_id, task_id, attempt), str)

    # -- swarms ------------------------------------------------------------------------------------------------------

    async def test_an_option_that_it_does_not_know_is_refused(self, gateway: ServerGateway) -> None:
        given = self.swarm("other")
        options = {**given.options, "no-such-option": "1"}
        with pytest.raises(InvalidInputError, match="no-such-option"):
            await gateway.add_swarm(SwarmInfo("other", given.working_directory, given.environment, "", options))

    async def test_a_swarm_may_be_told_again(self, gateway: ServerGateway) -> None:
        await gateway.add_swarm(self.swarm())
        outcome = await gateway.queue_batch(batch_of(self.SUCCEEDS))
        assert outcome is None or not outcome.refusals

    async def test_removing_an_unknown_swarm_is_no_error(self, gateway: ServerGateway) -> None:
        await gateway.remove_swarm("never heard of")

    # -- batches -----------------------------------------------------------------------------------------------------

    async def test_a_batch_is_taken(self, gateway: ServerGateway) -> None:
        outcome = await gateway.queue_batch(batch_of(self.SUCCEEDS, self.SUCCEEDS))
        assert outcome is None or not outcome.refusals

    async def test_the_largest_batch_is_taken(self, gateway: ServerGateway) -> None:
        outcome = await gateway.queue_batch(batch_of(*[self.SUCCEEDS] * gateway.capabilities.largest_batch))
        assert outcome is None or not outcome.refusals
        await gateway.remove_swarm(SWARM)

    async def test_several_batches_are_taken_at_once(self, gateway: ServerGateway) -> None:
        batches = [batch_of(*[self.SUCCEEDS] * 5, first_id=1 + 5 * number) for number in range(8)]
        for outcome in await asyncio.gather(*(gateway.queue_batch(batch) for batch in batches)):
            assert outcome is None or not outcome.refusals

    async def test_refusals_name_tasks_of_the_batch_and_say_why(self, gateway: ServerGateway) -> None:
        batch = batch_of(self.SUCCEEDS, self.NEVER_RUNS)
        outcome = await gateway.queue_batch(batch) or QueueOutcome()
        for refusal in outcome.refusals:
            assert set(refusal.task_ids) <= set(batch.task_ids.tolist())
            assert refusal.reason

    async def test_find_batch_always_has_an_answer(self, gateway: ServerGateway) -> None:
        found = await gateway.find_batch(batch_of(self.SUCCEEDS))
        assert isinstance(found, FindOutcome)
        assert found.found is not Found.QUEUED
        if not gateway.capabilities.can_find:
            assert found.found is Found.UNKNOWN

    async def test_cancelling_what_is_over_or_unknown_is_no_error(self, gateway: ServerGateway) -> None:
        await gateway.cancel_tasks(SWARM, [99], [1], "by the test")
        await gateway.cancel_tasks("never heard of", [1], [1], "by the test")

    # -- beginning and end -------------------------------------------------------------------------------------------

    async def test_resuming_nothing_is_no_error(self, gateway: ServerGateway) -> None:
        await gateway.resume([])

    async def test_close_twice_is_no_error(self, gateway: ServerGateway) -> None:
        await gateway.close()
        await gateway.close()

    async def test_close_without_start_is_no_error(self, tmp_path: Path) -> None:
        await self.make_gateway(tmp_path).close()
