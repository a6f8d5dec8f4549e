"""The suite that gateways are held to finds what it is to find: each fault here breaks one promise, and is noticed."""

import os
import re
import subprocess
import sys

import pytest

from tests.gateways.installing import install
from tests.gateways.test_page import block

FAULTY = '''
import asyncio
from swarmd.gateways import FindOutcome, Found, GatewayContext, Refusal, QueueOutcome, StateUpdate, TaskStatus
from swarmd.gateways import TaskStatuses, BatchRefusedError, OutcomeUnknownError, Capabilities
from swarmd.testing import FarEngineContract, GatewayContract
from swarmd_hosts import HostsGateway


class RunsTwice(HostsGateway):
    async def queue_batch(self, batch):
        await super().queue_batch(batch)
        await super().queue_batch(batch)


class LosesTheLast(HostsGateway):
    async def run(self, swarm_id, task):
        if task.task_id != 3:
            await super().run(swarm_id, task)


class SaysTheFirstAttempt(HostsGateway):
    def tell(self, swarm_id, task, status, reason=""):
        news = TaskStatuses()
        news.add(status, [task.task_id], [1], reason)
        self.report(swarm_id, StateUpdate(news))


class SaysNoAttempt(HostsGateway):
    def tell(self, swarm_id, task, status, reason=""):
        news = TaskStatuses()
        news.add(status, [task.task_id], None, reason)
        self.report(swarm_id, StateUpdate(news))


class MixesSwarms(HostsGateway):
    def tell(self, swarm_id, task, status, reason=""):
        super().tell("swarm-1", task, status, reason)


class GivesNoReason(HostsGateway):
    def tell(self, swarm_id, task, status, reason=""):
        super().tell(swarm_id, task, status)


class SpeaksAfterClose(HostsGateway):
    async def close(self):
        pass


class TakesAfterClose(HostsGateway):
    async def queue_batch(self, batch):
        self.swarms.setdefault(batch.swarm_id, {})
        await super().queue_batch(batch)


class TakesAnyOption(HostsGateway):
    async def add_swarm(self, swarm):
        self.swarms.setdefault(swarm.swarm_id, {})


class DoesNotCancel(HostsGateway):
    async def cancel_tasks(self, swarm_id, task_ids, attempts, reason):
        pass


class CancelsEveryAttempt(HostsGateway):
    async def cancel_tasks(self, swarm_id, task_ids, attempts, reason):
        for (task_id, _), run in self.swarms.get(swarm_id, {}).items():
            if task_id in task_ids:
                run.cancel()


class SpeaksOfWhatIsCancelled(HostsGateway):
    async def run(self, swarm_id, task):
        try:
            await super().run(swarm_id, task)
        except asyncio.CancelledError:
            self.tell(swarm_id, task, TaskStatus.ERROR_RECOVERABLE, "cancelled")


class LeavesWhatIsRemoved(HostsGateway):
    async def remove_swarm(self, swarm_id):
        self.swarms.pop(swarm_id, None)


class RefusesForNow(HostsGateway):
    async def queue_batch(self, batch):
        await super().queue_batch(batch)
        bad = [task.task_id for task in batch.tasks() if "\\0" in task.command]
        for task_id in bad:
            self.swarms[batch.swarm_id].pop((task_id, 1)).cancel()
        return QueueOutcome([Refusal(bad, "never")] if bad else [])


class RefusesALot(HostsGateway):
    async def queue_batch(self, batch):
        if len(batch) > 100:
            raise BatchRefusedError("too large")
        await super().queue_batch(batch)


class ForgetsWhatWasThere(HostsGateway):
    async def resume(self, batches, cancelled=()):
        pass


class SpeaksOfWhatWasCancelled(HostsGateway):
    async def resume(self, batches, cancelled=()):
        await super().resume([*batches, *cancelled])


class FindsEverything(HostsGateway):
    capabilities = Capabilities(can_find=True)

    async def find_batch(self, batch):
        return FindOutcome(Found.QUEUED)


class FindsNothing(HostsGateway):
    capabilities = Capabilities(can_find=True)

    async def find_batch(self, batch):
        return FindOutcome(Found.NOT_QUEUED)


class Away(FarEngineContract):
    """Its engine is a flag."""

    def engine_away(self):
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def away():
            Absent.away.clear()
            yield
            Absent.away.set()

        return away()


class Absent(HostsGateway):
    """Says nothing of what happens while its engine is away, but takes batches."""

    away = asyncio.Event()
    away.set()

    async def queue_batch(self, batch):
        if not self.away.is_set():
            raise BatchRefusedError("away")
        await super().queue_batch(batch)

    def tell(self, swarm_id, task, status, reason=""):
        if self.away.is_set():
            super().tell(swarm_id, task, status, reason)


class DoublesWhenAway(Absent):
    async def queue_batch(self, batch):
        if not self.away.is_set():
            await HostsGateway.queue_batch(self, batch)
            raise BatchRefusedError("away")
        await super().queue_batch(batch)

    tell = HostsGateway.tell


def tests_of(gateway, contract):
    def make_gateway(self, folder):
        return gateway(GatewayContext("hosts", {"hosts": ["one", "two"], "shell": "env HOST={host} sh -c"}))

    return type(f"Test{gateway.__name__}", (contract,), {"make_gateway": make_gateway})


for each in [HostsGateway, *HostsGateway.__subclasses__(), DoublesWhenAway]:
    globals()[f"Test{each.__name__}"] = tests_of(each, Away if issubclass(each, Absent) else GatewayContract)
'''

NOTICED = {
    "RunsTwice": "test_every_task_runs_once",
    "LosesTheLast": "test_every_task_comes_to_one_end",
    "SaysTheFirstAttempt": "test_news_name_the_swarm_the_attempt_and_queued_tasks_only",
    "SaysNoAttempt": "test_every_task_comes_to_one_end",
    "MixesSwarms": "test_swarms_are_told_apart",
    "GivesNoReason": "test_every_task_comes_to_one_end",
    "SpeaksAfterClose": "test_nothing_is_said_after_close",
    "TakesAfterClose": "test_a_batch_after_close_is_refused",
    "TakesAnyOption": "test_an_option_that_it_does_not_know_is_refused",
    "DoesNotCancel": "test_what_is_cancelled_ends",
    "CancelsEveryAttempt": "test_another_attempt_is_not_cancelled",
    "SpeaksOfWhatIsCancelled": "test_what_is_cancelled_is_not_spoken_of",
    "LeavesWhatIsRemoved": "test_the_tasks_of_a_removed_swarm_end_and_are_not_spoken_of",
    "RefusesForNow": "test_what_can_never_run_is_refused_or_fails_with_words_and_the_rest_runs",
    "RefusesALot": "test_the_largest_batch_is_taken",
    "ForgetsWhatWasThere": "test_the_next_daemon_hears_the_end_of_everything_and_nothing_runs_twice",
    "SpeaksOfWhatWasCancelled": "test_what_was_cancelled_before_the_next_daemon_is_ended_by_it_in_silence",
    "FindsEverything": "test_a_batch_that_never_came_is_said_to_be_none",
    "FindsNothing": "test_a_batch_that_was_taken_is_found",
    "Absent": "test_what_ends_while_the_engine_is_away_is_heard_of",
    "DoublesWhenAway": "test_a_batch_that_meets_no_engine_runs_once_when_it_is_back",
}
SECONDS = 300

pytestmark = pytest.mark.timeout(SECONDS + 60)


def test_every_fault_is_noticed(tmp_path):
    source = block("python", '"""swarmd_hosts: ')
    site = install(tmp_path / "site", "swarmd_hosts", source, hosts="swarmd_hosts:HostsGateway")
    (tmp_path / "conftest.py").write_text("from swarmd.testing import Record\nRecord.patience = 3.0\n")
    (tmp_path / "test_faulty.py").write_text(FAULTY)
    which = [f"test_faulty.py::Test{fault}::{test}" for fault, test in NOTICED.items()]
    sound = [f"test_faulty.py::TestHostsGateway::{test}" for test in dict.fromkeys(list(NOTICED.values())[:-4])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-c", os.devnull, "-p", "no:cacheprovider", *which, *sound],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    passed = set(re.findall(r"^PASSED test_faulty.py::Test(\w+)::", done.stdout, re.MULTILINE))
    failed = set(re.findall(r"^FAILED test_faulty.py::Test(\w+)::", done.stdout, re.MULTILINE))
    assert passed == {"HostsGateway"}, done.stdout
    assert failed == NOTICED.keys(), done.stdout + done.stderr
