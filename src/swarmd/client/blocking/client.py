"""The blocking client: generated from the asyncio one by scripts/generate_blocking.py; change it there.

Each method does in the portal's event loop what its namesake does, and waits for it.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from swarmd._pb.swarm.v1 import state_pb2
from swarmd.addresses import Address
from swarmd.client.blocking.portal import Portal, shared_portal
from swarmd.client.building import Swarm
from swarmd.client.client import SwarmClient as asyncio_SwarmClient
from swarmd.client.encoding import ColumnLoad, Ids, Loadable
from swarmd.client.live import LiveSwarm as asyncio_LiveSwarm
from swarmd.client.ordering import TaskArray
from swarmd.client.protocol import PATIENCE
from swarmd.client.selecting import Arrays, Statuses
from swarmd.client.updating import UpdateStream as asyncio_UpdateStream
from swarmd.client.values import (
    CancelResult,
    Event,
    Explanation,
    LoadResult,
    ResetResult,
    SwarmStatus,
    TaskInfo,
    TickResult,
    UpdateResult,
    WorkStatus,
)
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.update import StateUpdate


class UpdateStream:
    """A way for news into one swarm; a context manager, which waits for all answers at its end.

    `report` and its kin return as soon as the news is on its way, and wait only when too much was not answered yet;
    an error of theirs is raised by the next call, which sends its own news all the same, by `flush`, or at the end.
    `apply` waits for its answer. When the block ends with an error of its own, a few seconds are waited for answers;
    when it is cancelled or interrupted, what was not answered is given up.

        with client.updates("study") as updates:
            for batch in study.tick().batches:
                updates.running(batch.task_ids, batch.attempts)
                updates.done(batch.task_ids, batch.attempts)
    """

    def __init__(self, portal: Portal, wrapped: asyncio_UpdateStream) -> None:
        self._portal = portal
        self._asyncio = wrapped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal.call(self._asyncio.__aexit__(kind, error, traceback))

    def report(self, status: TaskStatus | str, task_ids: Ids, attempts: Ids | None = None, *, reason: str = "") -> None:
        """Tell that tasks have a status; `attempts`: which attempt that is about, one for each or one for all.

        Give the attempts: news without them is not told again when the connection is lost before it was answered, and
        the error is then NoDaemonError with the reason OUTCOME_UNKNOWN.

            updates.report(TaskStatus.RUNNING, np.arange(1, 1001), 1)
        """
        self._portal.call(self._asyncio.report(status, task_ids, attempts, reason=reason))

    def running(self, task_ids: Ids, attempts: Ids | None = None) -> None:
        """Tell that these tasks run.

        updates.running(np.arange(1, 101), 1)
        """
        self._portal.call(self._asyncio.running(task_ids, attempts))

    def done(self, task_ids: Ids, attempts: Ids | None = None) -> None:
        """Tell that these tasks succeeded: what waits for them is freed.

        updates.done([1, 2, 3], attempts=1)
        """
        self._portal.call(self._asyncio.done(task_ids, attempts))

    def failed(self, task_ids: Ids, attempts: Ids | None = None, *, reason: str = "") -> None:
        """Tell that an attempt of these tasks failed: they are queued again while they have attempts left.

        for batch in study.tick().batches:
            updates.failed(batch.task_ids, batch.attempts, reason="exit code 1")
        """
        self._portal.call(self._asyncio.failed(task_ids, attempts, reason=reason))

    def apply(self, update: StateUpdate | Mapping[int, str]) -> UpdateResult:
        """Send any set of changes, as one unit, and wait for its answer. Raises RpcError when it is refused.

        `update`: a StateUpdate, or just statuses by task id.

            result = updates.apply({1: "D", 2: "F"})
        """
        return self._portal.call(self._asyncio.apply(update))

    def apply_message(self, update: state_pb2.StateUpdate) -> UpdateResult:
        """The same for a message of the protocol.

        updates.apply_message(update_message({1: "D"}))
        """
        return self._portal.call(self._asyncio.apply_message(update))

    def flush(self) -> None:
        """Wait until everything is answered. Raises the first error of news that `report` sent.

        updates.flush()
        """
        self._portal.call(self._asyncio.flush())

    def close(self, *, flush: bool = True) -> None:
        """End the stream; without `flush` what is not answered is given up.

        study.updates().close()
        """
        self._portal.call(self._asyncio.close(flush=flush))


class LiveSwarm:
    """One swarm in the daemon; `SwarmClient.swarm`, `create_swarm` and `submit` give it."""

    def __init__(self, portal: Portal, wrapped: asyncio_LiveSwarm) -> None:
        self._portal = portal
        self._asyncio = wrapped

    @property
    def swarm_id(self) -> str:
        """Its name; empty: the only swarm there is."""
        return self._asyncio.swarm_id

    def __repr__(self) -> str:
        return repr(self._asyncio)

    def status(self, *, arrays: bool = False) -> SwarmStatus:
        """How it stands; with `arrays` also how each array does.

        running = study.status().counts.running
        waiting = study.status(arrays=True).arrays["simulate"].counts.registered
        """
        return self._portal.call(self._asyncio.status(arrays=arrays))

    def task(self, task_id: int) -> TaskInfo:
        """One task with its command and its upstreams. Raises NotFoundError.

        command = study.task(1).command
        """
        return self._portal.call(self._asyncio.task(task_id))

    def tasks(self, *, statuses: Statuses | None = None, arrays: Arrays | None = None) -> Iterator[TaskInfo]:
        """Its tasks, or those in these statuses and of these arrays, in the order of their loading; paged as needed.

        None: whatever they are; an empty list selects nothing.

        failed = [task.name for task in study.tasks(statuses=["F"], arrays=["simulate"])]
        """
        return self._portal.iterate(self._asyncio.tasks(statuses=statuses, arrays=arrays))

    def explain(self, task_id: int) -> Explanation:
        """Why a task is not running, and what became of its attempts.

        print(study.explain(1).summary)
        """
        return self._portal.call(self._asyncio.explain(task_id))

    def watch(
        self, *, after_revision: int | None = None, until_finished: bool = True, progress_interval: float = 10.0
    ) -> Iterator[Event]:
        """What happens, in order and without gaps: a Snapshot, then Changes, and an End.

        Goes on where it was after a lost connection. `after_revision`: the revision of the last event of an earlier
        watch, to go on from there. `progress_interval`: a Progress after so many seconds without a change.

            for event in study.watch():
                if isinstance(event, Change):
                    print(event.active_count, [f"{len(each.task_ids)} {each.status.name}" for each in event.statuses])
                    break
        """
        return self._portal.iterate(
            self._asyncio.watch(
                after_revision=after_revision, until_finished=until_finished, progress_interval=progress_interval
            )
        )

    def wait(self, *, timeout: float | None = None) -> SwarmStatus:
        """Wait until it is finished, or for `timeout` seconds at most, which raises TimeoutError.

        outcome = study.wait(timeout=60).outcome
        """
        return self._portal.call(self._asyncio.wait(timeout=timeout))

    def load(self, what: Swarm | Loadable | ColumnLoad) -> LoadResult:
        """Add arrays and tasks, all of them or none. May be done again while it runs.

        `what`: a Swarm, of which only what this swarm does not have is sent, or the plan of a workflow file.

            more = Swarm(first_id=5001)
            more.array("again", command="echo {name}", tasks=10)
            added = study.load(more).task_count
        """
        return self._portal.call(self._asyncio.load(what))

    def configure(
        self,
        *,
        max_concurrently_running: int | None = None,
        paused: bool | None = None,
        autopilot: bool | None = None,
        fail_fast: bool | None = None,
        display_name: str | None = None,
        run_status: RunStatus | str | None = None,
    ) -> SwarmStatus:
        """Change limits and switches; what is None stays.

        study.configure(max_concurrently_running=50, fail_fast=True)
        """
        return self._portal.call(
            self._asyncio.configure(
                max_concurrently_running=max_concurrently_running,
                paused=paused,
                autopilot=autopilot,
                fail_fast=fail_fast,
                display_name=display_name,
                run_status=run_status,
            )
        )

    def pause(self) -> SwarmStatus:
        """Queue nothing more until `resume`; what runs goes on.

        study.pause()
        """
        return self._portal.call(self._asyncio.pause())

    def resume(self) -> SwarmStatus:
        """Go on after `pause`.

        study.resume()
        """
        return self._portal.call(self._asyncio.resume())

    def limit_array(self, array: "int | str | TaskArray", limit: int | None) -> None:
        """Let at most so many tasks of an array be active at once; None: as many as the swarm allows.

        study.limit_array("simulate", 50)
        """
        self._portal.call(self._asyncio.limit_array(array, limit))

    def cancel(
        self,
        task_ids: Ids | None = None,
        *,
        arrays: Arrays | None = None,
        statuses: Statuses | None = None,
        everything: bool = False,
        reason: str = "",
    ) -> CancelResult:
        """End tasks for good, and kill those that run. What is given is combined: `arrays` and `statuses` mean both.

        What is None is no condition; an empty list selects nothing, whatever else is given: the daemon is not asked.
        After a lost connection it is repeated unless `statuses` are given: other tasks have them a moment later.

            study.cancel(np.arange(1, 101), reason="not needed")
            study.cancel(arrays=["simulate"])
        """
        return self._portal.call(
            self._asyncio.cancel(task_ids, arrays=arrays, statuses=statuses, everything=everything, reason=reason)
        )

    def reset(
        self,
        task_ids: Ids | None = None,
        *,
        arrays: Arrays | None = None,
        statuses: Statuses | None = None,
        everything: bool = False,
        downstreams: bool = False,
        reason: str = "",
    ) -> ResetResult:
        """Let tasks that ended run again, with all their attempts before them. Selected as in `cancel`.

        `downstreams`: also all final tasks that come after a selected one. It is never repeated by itself after a lost
        connection: tasks could run once more than you want.

            study.reset(statuses=[TaskStatus.ERROR_FATAL], reason="disk was full")
        """
        return self._portal.call(
            self._asyncio.reset(
                task_ids,
                arrays=arrays,
                statuses=statuses,
                everything=everything,
                downstreams=downstreams,
                reason=reason,
            )
        )

    def delete(self, *, force: bool = False) -> None:
        """Forget it; with `force` also when tasks are active: they are killed.

        study.delete(force=True)
        """
        self._portal.call(self._asyncio.delete(force=force))

    def tick(self, *, timeout: float | None = None, max_batches: int = 0) -> TickResult:
        """One scheduling iteration: queue what is ready, within the limits.

        No new batch starts after `timeout` seconds; at most `max_batches` are queued, 0: as many as there are. Needed
        when `autopilot` is off; with the `pull` gateway the batches are the caller's to run.

            for batch in study.tick(max_batches=1).batches:
                for task in batch.tasks:
                    print(task.task_id, task.command)
        """
        return self._portal.call(self._asyncio.tick(timeout=timeout, max_batches=max_batches))

    def has_work(self, *, wait: float | None = None) -> WorkStatus:
        """Whether a tick would queue something; waits up to `wait` seconds until it would, or all is finished.

        while study.has_work(wait=1).has_work:
            study.tick()
        """
        return self._portal.call(self._asyncio.has_work(wait=wait))

    def updates(self) -> UpdateStream:
        """A stream for much news, which does not wait for each answer.

        with study.updates() as updates:
            updates.running([1, 2, 3], attempts=1)
            updates.done([1, 2, 3], attempts=1)
        """
        return UpdateStream(self._portal, self._asyncio.updates())

    def apply(self, update: StateUpdate | Mapping[int, str]) -> UpdateResult:
        """Tell any set of changes, as one unit, and wait until it is applied. Raises RpcError when it is refused.

        `update`: a StateUpdate, or just statuses by task id, which as news without attempts are not told again when the
        connection is lost; `report` takes attempts.

            changed = study.apply({1: "R", 2: "D"}).changed_count
            study.apply(StateUpdate(max_concurrently_running=50, array_limits={1: 10}))
        """
        return self._portal.call(self._asyncio.apply(update))

    def report(
        self, status: TaskStatus | str, task_ids: Ids, attempts: Ids | None = None, *, reason: str = ""
    ) -> UpdateResult:
        """Tell that tasks have a status, and wait until it is applied; `attempts`: one for each task, or one for all.

        More than 50,000 ids go in several units. Give the attempts: news without them is not told again when the
        connection is lost before it was answered, and the error is then NoDaemonError with the reason OUTCOME_UNKNOWN.

            study.report(TaskStatus.RUNNING, np.arange(1, 101), attempts=1)
        """
        return self._portal.call(self._asyncio.report(status, task_ids, attempts, reason=reason))

    def running(self, task_ids: Ids, attempts: Ids | None = None) -> UpdateResult:
        """Tell that these tasks run.

        study.running([1, 2, 3], attempts=1)
        """
        return self._portal.call(self._asyncio.running(task_ids, attempts))

    def done(self, task_ids: Ids, attempts: Ids | None = None) -> UpdateResult:
        """Tell that these tasks succeeded: what waits for them is freed.

        freed = (study.done(np.arange(1, 101), attempts=1)).newly_ready_count
        """
        return self._portal.call(self._asyncio.done(task_ids, attempts))

    def failed(self, task_ids: Ids, attempts: Ids | None = None, *, reason: str = "") -> UpdateResult:
        """Tell that an attempt of these tasks failed: they are queued again while they have attempts left.

        batch = study.tick().batches[0]
        study.failed(batch.task_ids, batch.attempts, reason="exit code 1")
        """
        return self._portal.call(self._asyncio.failed(task_ids, attempts, reason=reason))


class SwarmClient:
    """A connection to a daemon; a context manager that closes it.

        with SwarmClient() as client:
            study = client.create_swarm("study", max_concurrently_running=100)

    Without an address it is that of SWARMD_ADDRESS, or the default socket. Over TCP a token is shown: `token`,
    `token_file`, SWARMD_TOKEN, SWARMD_TOKEN_FILE, or that of the user's own daemon. `tls_ca`, `tls_cert` and `tls_key`
    are PEM files; `tls=True` trusts the system's CAs. A token goes in the clear to another machine only with
    `insecure=True`. `patience`: for how many seconds a call that was lost is made again, where that is safe.

    Calls raise RpcError: NotFoundError, InvalidArgumentError, NoDaemonError and so on.
    """

    def __init__(
        self,
        address: Address | str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: bool | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_server_name: str | None = None,
        insecure: bool | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Connects at the first call. Raises InvalidInputError for what cannot be used."""
        self._portal = shared_portal()

        async def connected() -> asyncio_SwarmClient:
            return asyncio_SwarmClient(
                address,
                token=token,
                token_file=token_file,
                tls=tls,
                tls_ca=tls_ca,
                tls_cert=tls_cert,
                tls_key=tls_key,
                tls_server_name=tls_server_name,
                insecure=insecure,
                patience=patience,
            )

        self._asyncio = self._portal.call(connected())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal.call(self._asyncio.__aexit__(kind, error, traceback))

    def close(self) -> None:
        """End all calls and the connection. Calls under way, and later ones, raise RpcError: CLIENT_CLOSED.

        client.close()
        """
        self._portal.call(self._asyncio.close())

    @property
    def address(self) -> Address:
        """Where the daemon is."""
        return self._asyncio.address

    def connect(self, *, within: float = 5.0) -> None:
        """Make sure that a daemon answers; raises NoDaemonError. Calls connect by themselves: this is a check.

        client.connect(within=1.0)
        """
        self._portal.call(self._asyncio.connect(within=within))

    def create_swarm(
        self,
        swarm_id: str = "",
        *,
        display_name: str = "",
        max_concurrently_running: int | None = None,
        gateway: str = "local",
        autopilot: bool | None = None,
        paused: bool = False,
        fail_fast: bool = False,
        working_directory: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        gateway_options: Mapping[str, str] | None = None,
        scheduling_policy: SchedulingPolicy | str = SchedulingPolicy.FIRST_COME_FIRST_SERVED,
    ) -> LiveSwarm:
        """Make a swarm without tasks. Raises AlreadyExistsError when the id is taken.

        `swarm_id`: its name in every call; the daemon chooses one when it is empty. `gateway`: what runs the tasks;
        with "pull" it is the caller of `tick`. `autopilot`: the daemon queues whatever is ready by itself; None: but
        for "pull". `fail_fast`: queue nothing more after a task failed for good. `working_directory`: where commands
        start; None: here, when the daemon is on this machine (on a unix socket), else where the daemon is.
        `gateway_options`: what the gateway is to know of this swarm in particular (docs/gateways.md).
        `scheduling_policy`: in which order ready tasks of the same priority go, for good: "first_come_first_served",
        "longest_path_first" or "fair_share" (docs/scheduling.md).

            swarm = client.create_swarm("fits", max_concurrently_running=100, environment={"SEED": "1"})
        """
        return LiveSwarm(
            self._portal,
            self._portal.call(
                self._asyncio.create_swarm(
                    swarm_id,
                    display_name=display_name,
                    max_concurrently_running=max_concurrently_running,
                    gateway=gateway,
                    autopilot=autopilot,
                    paused=paused,
                    fail_fast=fail_fast,
                    working_directory=working_directory,
                    environment=environment,
                    gateway_options=gateway_options,
                    scheduling_policy=scheduling_policy,
                )
            ),
        )

    def submit(self, swarm: Swarm) -> LiveSwarm:
        """Make the swarm and load all that was put into it, or nothing of it; also when that was submitted before.

        When the daemon is lost for longer than `patience`, nobody can take the swarm back: the error says that it may
        be there.

            plan = Swarm("trial")
            first = plan.array("first", command="echo {name}", tasks=["a", "b"])
            first >> plan.task("last", command="echo done")
            trial = client.submit(plan)
        """
        return LiveSwarm(self._portal, self._portal.call(self._asyncio.submit(swarm)))

    def swarm(self, swarm_id: str = "") -> LiveSwarm:
        """A swarm that is in the daemon; empty: the only one there is. Asks nobody.

        study = client.swarm("study")
        """
        return LiveSwarm(self._portal, self._asyncio.swarm(swarm_id))

    def swarms(self) -> list[SwarmStatus]:
        """All swarms, in the order of their creation.

        names = [swarm.swarm_id for swarm in client.swarms()]
        """
        return self._portal.call(self._asyncio.swarms())

    def updates(self, swarm_id: str = "") -> UpdateStream:
        """A stream for news into a swarm, which does not wait for each answer.

        with client.updates("study") as updates:
            updates.running([1, 2, 3], attempts=1)
        """
        return UpdateStream(self._portal, self._asyncio.updates(swarm_id))
