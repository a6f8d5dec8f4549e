"""The contract, kept with the real server, and with the stand-in in its place."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from swarmd.core.batch import Batch
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.gateways.contract import FindOutcome, QueueOutcome, Refusal, Report, ServerGateway, SwarmInfo
from swarmd.gateways.jobmon.gateway import JobmonGateway
from swarmd.gateways.jobmon.settings import JobmonSettings
from tests.gateways.contract_suite import FarEngineContract, GatewayContract
from tests.gateways.jobmon.conftest import QUICK
from tests.gateways.jobmon.fake import FakeJobmon, FakeTask
from tests.gateways.jobmon.proxy import FaultyProxy
from tests.gateways.jobmon.real import Jobmon, Workflow
from tests.gateways.recording import Record

ATTEMPTS = 9


class Prepared(JobmonGateway):
    """Makes a run for each swarm and a task for each command: the suite knows nothing of either."""

    def __init__(self, fake: FakeJobmon) -> None:
        super().__init__(JobmonSettings.model_validate(QUICK))
        self._fake = fake
        self._numbers: dict[str, int] = {}

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        number = self._numbers.setdefault(swarm.swarm_id, len(self._numbers) + 1)
        self._fake.add_run(number, number)
        options = {"server": self._fake.url, "workflow_run_id": str(number), "workflow_id": str(number)}
        await super().add_swarm(replace(swarm, options={**options, **swarm.options}))

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        if batch.swarm_id in self._numbers:
            tasks = self._fake.workflows[self._numbers[batch.swarm_id]].tasks
            for task in batch.tasks():
                tasks.setdefault(task.task_id, FakeTask(max_attempts=ATTEMPTS)).command = task.command
        resources = replace(batch.task_resources, cluster="fake", queue="null.q")
        return await super().queue_batch(replace(batch, task_resources=resources))


class TestJobmonGateway(GatewayContract):
    NEVER_RUNS = "false"

    def noting(self, path: Path) -> str:
        return ""  # the stand-in knows `true` and `false`

    @pytest_asyncio.fixture(autouse=True)
    async def standing_in(self):
        async with FakeJobmon().serving() as fake:
            fake.runs_tasks = True
            self.fake = fake
            yield

    def make_gateway(self, folder: Path) -> ServerGateway:
        return Prepared(self.fake)


@dataclass
class AtServer:
    """What the suite's swarms and tasks are at the real server, which gives both ids of its own."""

    jobmon: Jobmon
    url: str
    """Where the gateway is to call it."""
    workflows: dict[str, Workflow] = field(default_factory=dict)
    there: dict[tuple[str, int], int] = field(default_factory=dict)
    here: dict[int, int] = field(default_factory=dict)
    commands: dict[int, str] = field(default_factory=dict)
    """By task: a later attempt of one may have another."""

    def workflow(self, swarm_id: str) -> Workflow:
        if swarm_id not in self.workflows:
            made = self.jobmon.workflow([["true"]], cluster="dummy")
            self.jobmon.set_run_status(made.run_id, "I", "O", "R")
            self.workflows[swarm_id] = made
        return self.workflows[swarm_id]

    def add_tasks(self, batch: Batch) -> None:
        new = [task for task in batch.tasks() if (batch.swarm_id, task.task_id) not in self.there]
        made = self.jobmon.add_tasks(self.workflows[batch.swarm_id], ["true"] * len(new), ATTEMPTS) if new else []
        for task, task_id in zip(new, made, strict=True):
            self.there[batch.swarm_id, task.task_id], self.here[task_id] = task_id, task.task_id
        for task in batch.tasks():
            self.commands[self.there[batch.swarm_id, task.task_id]] = task.command

    def forget(self, swarm_id: str) -> None:
        """The next swarm of this id is another."""
        self.workflows.pop(swarm_id, None)
        self.there = {known: task_id for known, task_id in self.there.items() if known[0] != swarm_id}


class PreparedAtServer(JobmonGateway):
    """The same with the real server."""

    def __init__(self, server: AtServer) -> None:
        super().__init__(JobmonSettings.model_validate(QUICK))
        self._at_server = server
        self._making = asyncio.Lock()

    async def start(self, report: Report) -> None:
        def translated(swarm_id: str, update: StateUpdate) -> "asyncio.Future[object] | None":
            statuses = TaskStatuses()
            for group in update.task_statuses.groups:
                ids = [self._at_server.here[task_id] for task_id in group.task_ids.tolist()]
                statuses.add(group.status, ids, group.attempts, group.reason)
            return report(swarm_id, replace(update, task_statuses=statuses))

        await super().start(translated)

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        made = await asyncio.to_thread(self._at_server.workflow, swarm.swarm_id)
        ids = {"workflow_run_id": str(made.run_id), "workflow_id": str(made.workflow_id)}
        options = {"server": self._at_server.url, **ids, **swarm.options}
        await super().add_swarm(replace(swarm, options=options))

    async def remove_swarm(self, swarm_id: str) -> None:
        await super().remove_swarm(swarm_id)
        self._at_server.forget(swarm_id)

    async def _of_server(self, batch: Batch) -> Batch:
        made = self._at_server.workflows.get(batch.swarm_id)
        if made is None:
            return batch
        async with self._making:
            await asyncio.shield(asyncio.to_thread(self._at_server.add_tasks, batch))
        return replace(
            batch,
            array=replace(batch.array, array_id=made.array_ids[0]),
            task_resources=replace(batch.task_resources, cluster="dummy", queue="null.q"),
            task_ids=np.array([self._there(batch.swarm_id, task_id) for task_id in batch.task_ids.tolist()]),
        )

    def _there(self, swarm_id: str, task_id: int) -> int:
        return self._at_server.there.get((swarm_id, task_id), 10**9 + task_id)

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        outcome = await super().queue_batch(await self._of_server(batch)) or QueueOutcome()
        return QueueOutcome([self._translated(refusal) for refusal in outcome.refusals])

    async def find_batch(self, batch: Batch) -> FindOutcome:
        outcome = await super().find_batch(await self._of_server(batch))
        return replace(outcome, refusals=[self._translated(refusal) for refusal in outcome.refusals])

    def _translated(self, refusal: Refusal) -> Refusal:
        return replace(refusal, task_ids=[self._at_server.here[task_id] for task_id in refusal.task_ids])

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        known = [[await self._of_server(batch) for batch in some] for some in (batches, cancelled)]
        await super().resume(*known)

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        await super().cancel_tasks(swarm_id, [self._there(swarm_id, each) for each in task_ids], attempts, reason)

    def standing(self, swarm_id: str, task_id: int, attempt: int) -> str:
        return super().standing(swarm_id, self._there(swarm_id, task_id), attempt)


class Executing(threading.Thread):
    """In the place of distributor and worker, which take seconds to start: it runs commands and tells the server."""

    def __init__(self, server: AtServer) -> None:
        super().__init__()
        self._server = server
        self._jobmon = server.jobmon
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(0.02):
            self._look()
            self._conclude()
        for process in self._running.values():
            self._kill(process)

    def end(self) -> None:
        self._is_over.set()
        self.join()

    def _look(self) -> None:
        query = """select id, task_id, array_id, array_batch_num, status from task_instance
            where status in ('Q', 'K') order by id"""
        found = self._jobmon.rows(query)
        killed = [instance for instance, *_, status in found if status == "K"]
        for instance in killed:
            if instance in self._running:
                self._kill(self._running.pop(instance))
            self._jobmon.change("update task_instance set status = 'F' where id = ?", instance)
        queued = [each for each in found if each[4] == "Q" and each[1] in self._server.commands]
        if queued:
            ids = [instance for instance, *_ in queued]
            self._jobmon.post("/task_instance/instantiate_task_instances", task_instance_ids=ids)
        for array, number in {(each[2], each[3]) for each in queued}:
            path = f"/array/{array}/transition_to_launched"
            self._jobmon.post(path, batch_number=number, next_report_increment=60)
        for instance, task_id, *_ in queued:
            if not self._is_over.is_set():
                self._start(instance, self._server.commands[task_id])

    def _start(self, instance: int, command: str) -> None:
        path = f"/task_instance/{instance}/log_running"
        try:
            answer = self._jobmon.post(path, process_group_id=1, next_report_increment=60)
        except AssertionError:
            return  # it was cancelled meanwhile: 500, as ever
        if "R" not in answer["task_instance"]:
            return
        try:
            self._running[instance] = subprocess.Popen(["sh", "-c", command], start_new_session=True)
        except ValueError as error:
            self._failed(instance, str(error))

    def _conclude(self) -> None:
        for instance, process in list(self._running.items()):
            code = process.poll()
            if code == 0:
                with contextlib.suppress(AssertionError):  # it was cancelled meanwhile
                    self._jobmon.post(f"/task_instance/{instance}/log_done")
            elif code is not None:
                self._failed(instance, f"exit code {code}")
            if code is not None:
                del self._running[instance]

    def _failed(self, instance: int, why: str) -> None:
        with contextlib.suppress(AssertionError):
            said = {"error_state": "E", "error_description": why}
            self._jobmon.post(f"/task_instance/{instance}/log_error_worker_node", **said)

    def _kill(self, process: "subprocess.Popen[bytes]") -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.timeout(600)
class TestJobmonGatewayAtTheServer(FarEngineContract):
    """The first test may have to install Jobmon."""

    @pytest_asyncio.fixture(autouse=True)
    async def executing(self, jobmon):
        async with FaultyProxy(int(jobmon.url.rpartition(":")[2]), seed=1, share=0).serving() as self.proxy:
            self.server = AtServer(jobmon, self.proxy.url)
            thread = Executing(self.server)
            thread.start()
            yield
            await asyncio.to_thread(thread.end)
        jobmon.change("update task_instance set status = 'F' where status in ('Q', 'K', 'I', 'O', 'R')")

    @contextlib.asynccontextmanager
    async def engine_away(self):
        self.proxy.is_away = True
        yield
        self.proxy.is_away = False

    @pytest_asyncio.fixture
    async def record(self):
        record = Record()
        record.patience = 120.0
        return record

    def make_gateway(self, folder: Path) -> ServerGateway:
        return PreparedAtServer(self.server)
