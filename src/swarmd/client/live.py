"""LiveSwarm: a swarm that is in the daemon, and everything that can be asked of it or done to it.

Made by `SwarmClient`. Tasks are named by their ids, as numbers, lists or numpy arrays, or as what a `Swarm` gave.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

from swarmd._pb.swarm.v1 import batch_pb2, state_pb2, swarm_pb2
from swarmd.client import decoding
from swarmd.client.building import Swarm
from swarmd.client.encoding import ColumnLoad, Ids, Loadable, run_status_value, status_of, update_message
from swarmd.client.messages import message_of
from swarmd.client.news import News
from swarmd.client.ordering import TaskArray
from swarmd.client.protocol import ProtocolClient
from swarmd.client.selecting import Arrays, Statuses, array_ids_of, selector_of
from swarmd.client.updating import UpdateStream, status_updates
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
from swarmd.client.watching import Follower
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.update import StateUpdate


class LiveSwarm:
    """One swarm in the daemon; `SwarmClient.swarm`, `create_swarm` and `submit` give it."""

    def __init__(self, client: ProtocolClient, swarm_id: str, news: News) -> None:
        self._client = client
        self._news = news
        self.swarm_id = swarm_id
        """Its name; empty: the only swarm there is."""

    def __repr__(self) -> str:
        return f"<swarm {self.swarm_id!r} at {self._client.address}>"

    # -- looking ---------------------------------------------------------------------------------------------------

    async def status(self, *, arrays: bool = False) -> SwarmStatus:
        """How it stands; with `arrays` also how each array does.

        running = (await study.status()).counts.running
        waiting = (await study.status(arrays=True)).arrays["simulate"].counts.registered
        """
        return decoding.swarm_status(await self._client.get_swarm(self.swarm_id, full=arrays))

    async def task(self, task_id: int) -> TaskInfo:
        """One task with its command and its upstreams. Raises NotFoundError.

        command = (await study.task(1)).command
        """
        return decoding.task_info(await self._client.get_task(self.swarm_id, task_id))

    async def tasks(self, *, statuses: Statuses | None = None, arrays: Arrays | None = None) -> AsyncIterator[TaskInfo]:
        """Its tasks, or those in these statuses and of these arrays, in the order of their loading; paged as needed.

        None: whatever they are; an empty list selects nothing.

        failed = [task.name async for task in study.tasks(statuses=["F"], arrays=["simulate"])]
        """
        chosen = await selector_of(self._client, self.swarm_id, None, arrays, statuses)
        if chosen is None:
            return
        found = self._client.list_tasks(self.swarm_id, statuses=chosen.statuses, array_ids=chosen.array_ids)
        async for task in found:
            yield decoding.task_info(task)

    async def explain(self, task_id: int) -> Explanation:
        """Why a task is not running, and what became of its attempts.

        print((await study.explain(1)).summary)
        """
        return decoding.explanation(await self._client.explain_task(self.swarm_id, task_id))

    async def watch(
        self, *, after_revision: int | None = None, until_finished: bool = True, progress_interval: float = 10.0
    ) -> AsyncIterator[Event]:
        """What happens, in order and without gaps: a Snapshot, then Changes, and an End.

        Goes on where it was after a lost connection. `after_revision`: the revision of the last event of an earlier
        watch, to go on from there. `progress_interval`: a Progress after so many seconds without a change.

            async for event in study.watch():
                if isinstance(event, Change):
                    print(event.active_count, [f"{len(each.task_ids)} {each.status.name}" for each in event.statuses])
                    break
        """
        follower = Follower(
            self._client,
            self.swarm_id,
            after_revision,
            until_finished=until_finished,
            progress_interval=progress_interval,
            patience=self._client.patience,
        )
        async for message in follower.events():
            yield decoding.event(message)

    async def wait(self, *, timeout: float | None = None) -> SwarmStatus:  # noqa: ASYNC109
        """Wait until it is finished, or for `timeout` seconds at most, which raises TimeoutError.

        outcome = (await study.wait(timeout=60)).outcome
        """
        follower = Follower(self._client, self.swarm_id, until_finished=True, patience=self._client.patience)
        async with asyncio.timeout(timeout):
            async for _ in follower.events():
                pass
        return await self.status()

    # -- changing --------------------------------------------------------------------------------------------------

    async def load(self, what: Swarm | Loadable | ColumnLoad) -> LoadResult:
        """Add arrays and tasks, all of them or none. May be done again while it runs.

        `what`: a Swarm, of which only what this swarm does not have is sent, or the plan of a workflow file.

            more = Swarm(first_id=5001)
            more.array("again", command="echo {name}", tasks=10)
            added = (await study.load(more)).task_count
        """
        if isinstance(what, Swarm):
            return await load_plan(self._client, what, await self._client.get_swarm(self.swarm_id))
        return decoding.load_result(await self._client.add_tasks(self.swarm_id, what))

    async def configure(
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

        await study.configure(max_concurrently_running=50, fail_fast=True)
        """
        given = {
            "max_concurrently_running": max_concurrently_running,
            "paused": paused,
            "autopilot": autopilot,
            "fail_fast": fail_fast,
            "display_name": display_name,
            "workflow_run_status": None if run_status is None else run_status_value(run_status),
        }
        fields = [name for name, value in given.items() if value is not None]
        message = message_of(swarm_pb2.Swarm, swarm_id=self.swarm_id, **{name: given[name] for name in fields})
        return decoding.swarm_status(await self._client.update_swarm(message, fields))

    async def pause(self) -> SwarmStatus:
        """Queue nothing more until `resume`; what runs goes on.

        await study.pause()
        """
        return await self.configure(paused=True)

    async def resume(self) -> SwarmStatus:
        """Go on after `pause`.

        await study.resume()
        """
        return await self.configure(paused=False)

    async def limit_array(self, array: "int | str | TaskArray", limit: int | None) -> None:
        """Let at most so many tasks of an array be active at once; None: as many as the swarm allows.

        await study.limit_array("simulate", 50)
        """
        (array_id,) = await array_ids_of(self._client, self.swarm_id, array)
        change = state_pb2.ArrayLimit(array_id=array_id, max_concurrently_running=limit)
        await self._news.apply(self.swarm_id, state_pb2.StateUpdate(array_limits=[change]))

    async def cancel(
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

            await study.cancel(np.arange(1, 101), reason="not needed")
            await study.cancel(arrays=["simulate"])
        """
        chosen = await selector_of(self._client, self.swarm_id, task_ids, arrays, statuses, everything=everything)
        if chosen is None:
            return CancelResult(0, 0, 0)
        answer = await self._client.cancel_tasks(self.swarm_id, chosen, reason=reason)
        return CancelResult(answer.cancelled_count, answer.final_count, answer.revision)

    async def reset(
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

            await study.reset(statuses=[TaskStatus.ERROR_FATAL], reason="disk was full")
        """
        chosen = await selector_of(self._client, self.swarm_id, task_ids, arrays, statuses, everything=everything)
        if chosen is None:
            return ResetResult(0, 0, 0, 0)
        answer = await self._client.reset_tasks(self.swarm_id, chosen, include_downstreams=downstreams, reason=reason)
        return ResetResult(answer.reset_count, answer.not_final_count, answer.newly_ready_count, answer.revision)

    async def delete(self, *, force: bool = False) -> None:
        """Forget it; with `force` also when tasks are active: they are killed.

        await study.delete(force=True)
        """
        await self._client.delete_swarm(self.swarm_id, force=force)

    # -- scheduling ------------------------------------------------------------------------------------------------

    async def tick(self, *, timeout: float | None = None, max_batches: int = 0) -> TickResult:  # noqa: ASYNC109
        """One scheduling iteration: queue what is ready, within the limits.

        No new batch starts after `timeout` seconds; at most `max_batches` are queued, 0: as many as there are. Needed
        when `autopilot` is off; with the `pull` gateway the batches are the caller's to run.

            for batch in (await study.tick(max_batches=1)).batches:
                for task in batch.tasks:
                    print(task.task_id, task.command)
        """
        answer = await self._client.tick(
            self.swarm_id, timeout=timeout, max_batches=max_batches, view=batch_pb2.BATCH_VIEW_FULL
        )
        return decoding.tick_result(answer)

    async def has_work(self, *, wait: float | None = None) -> WorkStatus:
        """Whether a tick would queue something; waits up to `wait` seconds until it would, or all is finished.

        while (await study.has_work(wait=1)).has_work:
            await study.tick()
        """
        return decoding.work_status(await self._client.has_work(self.swarm_id, wait=wait))

    # -- news ------------------------------------------------------------------------------------------------------

    def updates(self) -> UpdateStream:
        """A stream for much news, which does not wait for each answer.

        async with study.updates() as updates:
            await updates.running([1, 2, 3], attempts=1)
            await updates.done([1, 2, 3], attempts=1)
        """
        return UpdateStream(self._client, self.swarm_id)

    async def apply(self, update: StateUpdate | Mapping[int, str]) -> UpdateResult:
        """Tell any set of changes, as one unit, and wait until it is applied. Raises RpcError when it is refused.

        `update`: a StateUpdate, or just statuses by task id, which as news without attempts are not told again when the
        connection is lost; `report` takes attempts.

            changed = (await study.apply({1: "R", 2: "D"})).changed_count
            await study.apply(StateUpdate(max_concurrently_running=50, array_limits={1: 10}))
        """
        return await self._news.apply(self.swarm_id, update_message(update))

    async def report(
        self, status: TaskStatus | str, task_ids: Ids, attempts: Ids | None = None, *, reason: str = ""
    ) -> UpdateResult:
        """Tell that tasks have a status, and wait until it is applied; `attempts`: one for each task, or one for all.

        More than 50,000 ids go in several units. Give the attempts: news without them is not told again when the
        connection is lost before it was answered, and the error is then NoDaemonError with the reason OUTCOME_UNKNOWN.

            await study.report(TaskStatus.RUNNING, np.arange(1, 101), attempts=1)
        """
        updates = list(status_updates(status_of(status), task_ids, attempts, reason))
        answers = await asyncio.gather(*(self._news.apply(self.swarm_id, each) for each in updates))
        return UpdateResult(
            changed_count=sum(each.changed_count for each in answers),
            newly_ready_count=sum(each.newly_ready_count for each in answers),
            ignored=tuple(news for each in answers for news in each.ignored),
            revision=max((each.revision for each in answers), default=0),
        )

    async def running(self, task_ids: Ids, attempts: Ids | None = None) -> UpdateResult:
        """Tell that these tasks run.

        await study.running([1, 2, 3], attempts=1)
        """
        return await self.report(TaskStatus.RUNNING, task_ids, attempts)

    async def done(self, task_ids: Ids, attempts: Ids | None = None) -> UpdateResult:
        """Tell that these tasks succeeded: what waits for them is freed.

        freed = (await study.done(np.arange(1, 101), attempts=1)).newly_ready_count
        """
        return await self.report(TaskStatus.DONE, task_ids, attempts)

    async def failed(self, task_ids: Ids, attempts: Ids | None = None, *, reason: str = "") -> UpdateResult:
        """Tell that an attempt of these tasks failed: they are queued again while they have attempts left.

        batch = (await study.tick()).batches[0]
        await study.failed(batch.task_ids, batch.attempts, reason="exit code 1")
        """
        return await self.report(TaskStatus.ERROR_RECOVERABLE, task_ids, attempts, reason=reason)


async def load_plan(client: ProtocolClient, plan: Swarm, into: swarm_pb2.Swarm) -> LoadResult:
    """Send what that very swarm does not have of the plan; repeats send the same."""
    with plan.loading((into.swarm_id, into.create_time.ToNanoseconds())) as load:
        return decoding.load_result(await client.add_tasks(into.swarm_id, load))
