"""What every gateway keeps to, whatever its engine, as tests: a class of yours derives from `GatewayContract`.

All of it is about `ServerGateway` alone, as the daemon sees it; the commands are the engine's, and can be others.
"""

import asyncio
import shlex
from pathlib import Path

import pytest

from swarmd.core.batch import Batch
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import (
    BatchRefusedError,
    FindOutcome,
    Found,
    OutcomeUnknownError,
    QueueOutcome,
    ServerGateway,
    SwarmInfo,
)
from swarmd.testing.basic import BasicContract
from swarmd.testing.recording import ENDS, SWARM, Record, batch_of

SILENCE_SECONDS = 0.3
"""How long something is waited for that must not come. It may come later, so this finds faults and proves nothing."""
LOOK_SECONDS = 0.05
FAILURES = frozenset({TaskStatus.ERROR_RECOVERABLE, TaskStatus.ERROR_FATAL, TaskStatus.ADJUSTING_RESOURCES})


class GatewayContract(BasicContract):
    """What holds for a gateway whose engine runs the tasks. Derive, make the gateway, and say what its commands are."""

    @pytest.fixture
    def cancels(self, gateway: ServerGateway) -> None:
        """Skips where that cannot be tried."""
        if not gateway.capabilities.can_cancel:
            pytest.skip("it cannot cancel")

    @pytest.fixture
    def finds(self, gateway: ServerGateway) -> None:
        """Skips where that cannot be tried."""
        if not gateway.capabilities.can_find:
            pytest.skip("it cannot find batches")

    def noting(self, path: Path) -> str:
        """A command that adds a line to a file of this machine. Empty where the engine has no such commands."""
        return f"echo ran >>{shlex.quote(str(path))}"

    def times_noted(self, path: Path) -> int:
        """How often such a command ran."""
        return len(path.read_text().splitlines()) if path.exists() else 0

    async def next_gateway(self, folder: Path, record: Record, *swarms: SwarmInfo) -> ServerGateway:
        """That of the next daemon, which knows these swarms again."""
        gateway = self.make_gateway(folder)
        await gateway.start(record.report)
        for swarm in swarms:
            await gateway.add_swarm(swarm)
        return gateway

    async def found(self, gateway: ServerGateway, batch: Batch, record: Record) -> FindOutcome:
        """What became of a batch, asked until that is known."""
        async with asyncio.timeout(record.patience):
            while True:
                outcome = await gateway.find_batch(batch)
                if outcome.found is not Found.UNKNOWN:
                    return outcome
                await asyncio.sleep(LOOK_SECONDS)

    # -- running -----------------------------------------------------------------------------------------------------

    async def test_every_task_comes_to_one_end(self, gateway: ServerGateway, record: Record) -> None:
        await gateway.queue_batch(batch_of(self.SUCCEEDS, self.FAILS, self.SUCCEEDS))
        await record.ended(1, 2, 3)
        assert record.end_of(1)[0] is TaskStatus.DONE
        assert record.end_of(3)[0] is TaskStatus.DONE
        status, reason = record.end_of(2)
        assert status is TaskStatus.ERROR_RECOVERABLE
        assert reason

    async def test_every_task_runs_once(self, gateway: ServerGateway, record: Record, tmp_path: Path) -> None:
        command = self.noting(tmp_path / "noted") or self.SUCCEEDS
        await gateway.queue_batch(batch_of(*[command] * 20))
        await record.ended(*range(1, 21))
        await asyncio.sleep(SILENCE_SECONDS)
        for task_id in range(1, 21):
            assert record.statuses(task_id)[-1] in ENDS, "nothing runs again after its end"
            assert record.end_of(task_id)[0] is TaskStatus.DONE
        if self.noting(tmp_path):
            assert self.times_noted(tmp_path / "noted") == 20

    async def test_news_name_the_swarm_the_attempt_and_queued_tasks_only(
        self, gateway: ServerGateway, record: Record
    ) -> None:
        await gateway.queue_batch(batch_of(self.SUCCEEDS, self.FAILS, attempt=3))
        await record.ended(1, 2)
        assert {swarm_id for swarm_id, *_ in record.news} == {SWARM}
        assert {task_id for _, task_id, *_ in record.news} == {1, 2}
        assert {attempt for _, _, attempt, *_ in record.news} == {3}

    async def test_the_next_attempt_of_a_task_is_one_of_its_own(self, gateway: ServerGateway, record: Record) -> None:
        await gateway.queue_batch(batch_of(self.FAILS))
        await record.until(lambda: record.ends_of(1, 1))
        await gateway.queue_batch(batch_of(self.SUCCEEDS, attempt=2))
        await record.until(lambda: record.ends_of(1, 2))
        assert {status for status, _ in record.ends_of(1, 1)} == {TaskStatus.ERROR_RECOVERABLE}
        assert {status for status, _ in record.ends_of(1, 2)} == {TaskStatus.DONE}

    async def test_swarms_are_told_apart(self, gateway: ServerGateway, record: Record) -> None:
        await gateway.add_swarm(self.swarm("other"))
        await gateway.queue_batch(batch_of(self.SUCCEEDS))
        await gateway.queue_batch(batch_of(self.FAILS, swarm_id="other"))
        await record.until(lambda: record.ends_of(1, 1) and record.ends_of(1, 1, "other"))
        assert {status for status, _ in record.ends_of(1, 1)} == {TaskStatus.DONE}
        assert {status for status, _ in record.ends_of(1, 1, "other")} == {TaskStatus.ERROR_RECOVERABLE}

    async def test_that_its_swarm_is_finished_may_be_said_again(self, gateway: ServerGateway, record: Record) -> None:
        await gateway.queue_batch(batch_of(self.SUCCEEDS))
        await record.ended(1)
        await gateway.swarm_finished(SWARM, succeeded=True)
        await gateway.swarm_finished(SWARM, succeeded=True)

    # -- refused -----------------------------------------------------------------------------------------------------

    async def test_what_can_never_run_is_refused_or_fails_with_words_and_the_rest_runs(
        self, gateway: ServerGateway, record: Record
    ) -> None:
        outcome = await gateway.queue_batch(batch_of(self.SUCCEEDS, self.NEVER_RUNS, self.SUCCEEDS)) or QueueOutcome()
        await record.ended(1, 3)
        assert [record.end_of(task_id)[0] for task_id in (1, 3)] == [TaskStatus.DONE] * 2
        refused = {task_id: refusal for refusal in outcome.refusals for task_id in refusal.task_ids}
        assert set(refused) <= {2}
        if refused:
            assert refused[2].permanent, "one that comes back would be offered for ever"
            assert refused[2].reason
            assert record.statuses(2) == [], "what was refused was never there"
        else:
            await record.ended(2)
            status, reason = record.end_of(2)
            assert status in FAILURES
            assert reason

    async def test_a_batch_of_a_swarm_that_it_was_not_told_of_is_refused(self, gateway: ServerGateway) -> None:
        with pytest.raises(BatchRefusedError) as refused:
            await gateway.queue_batch(batch_of(self.SUCCEEDS, swarm_id="never heard of"))
        assert str(refused.value)

    async def test_a_batch_after_close_is_refused(self, gateway: ServerGateway, record: Record, tmp_path: Path) -> None:
        await gateway.close()
        with pytest.raises(BatchRefusedError) as refused:
            await gateway.queue_batch(batch_of(self.noting(tmp_path / "noted") or self.SUCCEEDS))
        assert str(refused.value)
        await asyncio.sleep(SILENCE_SECONDS)
        assert self.times_noted(tmp_path / "noted") == 0
        assert record.news == []

    # -- not known ---------------------------------------------------------------------------------------------------

    async def test_a_batch_that_was_taken_is_found(self, gateway: ServerGateway, record: Record, finds: None) -> None:
        batch = batch_of(self.TAKES_LONG, self.NEVER_RUNS)
        outcome = await gateway.queue_batch(batch) or QueueOutcome()
        found = await self.found(gateway, batch, record)
        assert found.found is Found.QUEUED
        assert refused_by(found) == refused_by(outcome)

    async def test_a_batch_that_never_came_is_said_to_be_none(
        self, gateway: ServerGateway, record: Record, finds: None, tmp_path: Path
    ) -> None:
        batch = batch_of(self.noting(tmp_path / "noted") or self.SUCCEEDS)
        assert (await self.found(gateway, batch, record)).found is Found.NOT_QUEUED
        assert (await self.found(gateway, batch, record)).found is Found.NOT_QUEUED, "it was said already"
        assert self.times_noted(tmp_path / "noted") == 0

    @pytest.mark.parametrize("turns", [0, 1, 3, 10, 30])
    async def test_what_became_of_a_call_that_was_broken_off_is_found_and_true(
        self, gateway: ServerGateway, record: Record, finds: None, tmp_path: Path, turns: int
    ) -> None:
        batch = batch_of(*[self.noting(tmp_path / "noted") or self.SUCCEEDS] * 3)
        calling = asyncio.create_task(gateway.queue_batch(batch))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        calling.cancel()
        if await is_refused(calling):
            return
        outcome = await self.found(gateway, batch, record)
        if outcome.found is Found.QUEUED:
            taken = {1, 2, 3} - set(refused_by(outcome))
            await record.ended(*taken)
        else:
            taken = set()
        await asyncio.sleep(SILENCE_SECONDS)
        assert record.ended_ids() == taken
        if self.noting(tmp_path):
            assert self.times_noted(tmp_path / "noted") == len(taken)

    # -- cancelled ---------------------------------------------------------------------------------------------------

    async def test_what_is_cancelled_is_not_spoken_of(
        self, gateway: ServerGateway, record: Record, cancels: None
    ) -> None:
        await gateway.queue_batch(batch_of(self.TAKES_LONG, self.TAKES_LONG))
        await record.running(1, 2)
        await gateway.cancel_tasks(SWARM, [1], [1], "by the test")
        await gateway.queue_batch(batch_of(self.SUCCEEDS, first_id=3))
        await record.ended(3)
        assert record.ended_ids() == {3}

    async def test_what_is_cancelled_makes_room_wherever_it_is(
        self, gateway: ServerGateway, record: Record, cancels: None
    ) -> None:
        await gateway.queue_batch(batch_of(*[self.TAKES_LONG] * 40))
        await gateway.cancel_tasks(SWARM, list(range(1, 41)), [1] * 40, "by the test")
        await gateway.queue_batch(batch_of(self.SUCCEEDS, first_id=41))
        await record.ended(41)
        assert record.ended_ids() == {41}

    async def test_another_attempt_is_not_cancelled(
        self, gateway: ServerGateway, record: Record, cancels: None
    ) -> None:
        await gateway.queue_batch(batch_of(self.SUCCEEDS, attempt=2))
        await gateway.cancel_tasks(SWARM, [1], [1], "by the test")
        await record.ended(1)
        assert {status for status, _ in record.ends_of(1, 2)} == {TaskStatus.DONE}

    async def test_what_is_cancelled_ends(
        self, gateway: ServerGateway, record: Record, cancels: None, tmp_path: Path
    ) -> None:
        await gateway.queue_batch(batch_of(self._noting_for_ever(tmp_path / "noted")))
        await self._until_noted(tmp_path / "noted", record)
        await gateway.cancel_tasks(SWARM, [1], [1], "by the test")
        await self._until_silent(tmp_path / "noted", record)
        assert record.ended_ids() == set()

    async def test_the_tasks_of_a_removed_swarm_end_and_are_not_spoken_of(
        self, gateway: ServerGateway, record: Record, cancels: None, tmp_path: Path
    ) -> None:
        await gateway.queue_batch(batch_of(self._noting_for_ever(tmp_path / "noted")))
        await self._until_noted(tmp_path / "noted", record)
        await gateway.remove_swarm(SWARM)
        await self._until_silent(tmp_path / "noted", record)
        assert record.ended_ids() == set()

    async def test_a_swarm_that_has_the_id_of_a_removed_one_is_another(
        self, gateway: ServerGateway, record: Record, cancels: None
    ) -> None:
        await gateway.queue_batch(batch_of(self.TAKES_LONG, self.TAKES_LONG))
        await record.running(1, 2)
        await gateway.remove_swarm(SWARM)
        await gateway.add_swarm(self.swarm())
        await gateway.queue_batch(batch_of(self.SUCCEEDS, self.FAILS))
        await record.ended(1, 2)
        await asyncio.sleep(SILENCE_SECONDS)
        assert record.end_of(1)[0] is TaskStatus.DONE
        assert record.end_of(2)[0] is TaskStatus.ERROR_RECOVERABLE

    def _noting_for_ever(self, path: Path) -> str:
        if not self.noting(path):
            pytest.skip("its commands write no files here")
        return f"while sleep 0.02; do {self.noting(path)}; done"

    async def _until_noted(self, path: Path, record: Record) -> None:
        async with asyncio.timeout(record.patience):
            while not self.times_noted(path):  # noqa: ASYNC110 - nobody tells what other processes do
                await asyncio.sleep(LOOK_SECONDS)

    async def _until_silent(self, path: Path, record: Record) -> None:
        """A command that notes again and again has ended."""
        async with asyncio.timeout(record.patience):
            while True:
                before = self.times_noted(path)
                await asyncio.sleep(SILENCE_SECONDS)
                if self.times_noted(path) == before:
                    return

    # -- beginning and end -------------------------------------------------------------------------------------------

    async def test_nothing_is_said_after_close(self, gateway: ServerGateway, record: Record) -> None:
        await gateway.queue_batch(batch_of(*[self.SUCCEEDS] * 10))
        await gateway.close()
        said = len(record.updates)
        await asyncio.sleep(SILENCE_SECONDS)
        assert len(record.updates) == said

    async def test_the_next_daemon_hears_the_end_of_everything_and_nothing_runs_twice(
        self, record: Record, tmp_path: Path
    ) -> None:
        swarm = self.swarm("kept", token="4f0c")
        command = self.noting(tmp_path / "noted") or self.SUCCEEDS
        gateway = await self.next_gateway(tmp_path, record, swarm)
        batch = batch_of(*[command] * 12, swarm_id="kept", attempt=2)
        await gateway.queue_batch(batch)
        await gateway.close()
        later = Record()
        later.patience = record.patience
        gateway = await self.next_gateway(tmp_path, later, swarm)
        try:
            await gateway.resume([batch])
            known = {task_id for task_id in range(1, 13) if record.ends_of(task_id, 2, "kept")}
            await later.ended(*(set(range(1, 13)) - known))
            for task_id in range(1, 13):
                ends = record.ends_of(task_id, 2, "kept") | later.ends_of(task_id, 2, "kept")
                assert len({status for status, _ in ends}) == 1, ends
                assert all(reason for status, reason in ends if status in FAILURES), "say why it failed"
            assert self.times_noted(tmp_path / "noted") <= 12
        finally:
            await gateway.close()

    async def test_what_was_cancelled_before_the_next_daemon_is_ended_by_it_in_silence(
        self, record: Record, tmp_path: Path
    ) -> None:
        swarm = self.swarm("kept", token="4f0c")
        gateway = await self.next_gateway(tmp_path, Record(), swarm)
        can_cancel = gateway.capabilities.can_cancel
        batch = batch_of(self._noting_for_ever(tmp_path / "noted"), swarm_id="kept")
        await gateway.queue_batch(batch)
        await self._until_noted(tmp_path / "noted", record)
        await gateway.close()
        gateway = await self.next_gateway(tmp_path, record, swarm)
        try:
            await gateway.resume([], [batch])
            if can_cancel:
                await self._until_silent(tmp_path / "noted", record)
            assert record.ended_ids() == set()
        finally:
            await gateway.close()

    async def test_the_next_daemon_finds_what_the_one_before_has_queued(self, record: Record, tmp_path: Path) -> None:
        swarm = self.swarm("kept", token="4f0c")
        gateway = await self.next_gateway(tmp_path, record, swarm)
        can_find = gateway.capabilities.can_find
        batch = batch_of(self.TAKES_LONG, swarm_id="kept")
        await gateway.queue_batch(batch)
        await record.running(1)
        await gateway.close()
        if not can_find:
            pytest.skip("it cannot find batches")
        gateway = await self.next_gateway(tmp_path, record, swarm)
        try:
            assert (await self.found(gateway, batch, record)).found is Found.QUEUED
            never = batch_of(self.SUCCEEDS, swarm_id="kept", first_id=2)
            assert (await self.found(gateway, never, record)).found is Found.NOT_QUEUED
            await gateway.remove_swarm("kept")
        finally:
            await gateway.close()


def refused_by(outcome: QueueOutcome | FindOutcome) -> list[int]:
    """The tasks that were not taken."""
    return sorted(task_id for refusal in outcome.refusals for task_id in refusal.task_ids)


async def is_refused(calling: "asyncio.Task[QueueOutcome | None]") -> bool:
    """Whether a call says that nothing was queued; otherwise nobody knows."""
    try:
        await calling
    except BatchRefusedError:
        return True
    except (OutcomeUnknownError, asyncio.CancelledError):
        return False
    return False
