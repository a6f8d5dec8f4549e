"""The real core and the naive reference, side by side, through random lives of a swarm.

After every step both must stand exactly alike, and the core must agree with itself.
"""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swarmd.core.batch import Batch
from swarmd.core.change import Change
from swarmd.core.checks import inconsistencies
from swarmd.core.columns import TaskColumns
from swarmd.core.loading import KnownIds, Load, LoadPlan, plan_load
from swarmd.core.model import Array, QueueLimits, Task, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.selecting import Selector
from swarmd.core.state import SwarmState
from swarmd.core.status import STATUS_OF, Code, RunStatus, TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from tests.core.builders import only
from tests.core.reference import Asked, Group, RefBatch, Reference, RefTask

pytestmark = pytest.mark.timeout(600)
"""Hundreds of lives: two minutes can be too few on a machine that is busy."""

ARRAYS = {1: None, 2: 3, 30: 1}
RESOURCES = {1: Asked(100, "short", ("long", ""), 1.5), 7: Asked(1001, "", ("big",), 6.0)}
QUEUES = st.sampled_from(["short", "long", "", "big"])
MOST = st.sampled_from([90, 120, 150, 400, 1001, 1600, 5000]) | st.none()
SCALE = 0.5
PICKS = st.integers(0, 200)
SOME = st.lists(PICKS, min_size=1, max_size=5)
FENCES = st.sampled_from(["none", "own", "older", "ahead", "mixed"])
NEWS = st.sampled_from("QIORDEAFG")
LIMITS = st.sampled_from([0, 1, 2, 3, 5, 50])

Shape = dict[str, Any]

task_shapes = st.fixed_dictionaries(
    {
        "array": st.sampled_from([*ARRAYS]),
        "resources": st.sampled_from([*RESOURCES]),
        "priority": st.sampled_from([0, 0, 0, -1, 5]),
        "scale": st.sampled_from([0.0, SCALE]),
        "max_attempts": st.integers(1, 3),
        "upstreams": st.lists(PICKS, max_size=3),
        "status": st.sampled_from("GGGGGGGGDFXQR"),
        "forwards": st.booleans(),
    }
)


class SideBySide(RuleBasedStateMachine):
    """Every rule does the same to both, and compares what they answer."""

    policy = SchedulingPolicy.FIRST_COME_FIRST_SERVED

    @initialize(limit=st.sampled_from([1, 4, 50, 50]), shapes=st.lists(task_shapes, min_size=3, max_size=12))
    def begin(self, limit: int, shapes: list[Shape]) -> None:
        self.state = SwarmState("s", max_concurrently_running=limit, scheduling_policy=self.policy)
        resources = [
            TaskResources(
                each,
                queue=asked.queue,
                memory_mib=asked.memory,
                runtime_seconds=asked.runtime,
                fallback_queues=asked.fallbacks,
            )
            for each, asked in RESOURCES.items()
        ]
        self.state.load([Array(each, max_concurrently_running=most) for each, most in ARRAYS.items()], resources)
        self.reference = Reference(limit, dict(ARRAYS), RESOURCES, self.policy)
        self.ids: list[int] = []
        self.open: list[tuple[Batch, RefBatch]] = []
        self.over: list[tuple[Batch, RefBatch]] = []
        self.planned: tuple[LoadPlan, list[RefTask]] | None = None
        self.batch_ids: set[str] = set()
        self.highest_attempt: dict[int, int] = {}
        self.revision = self.state.revision
        self.next_id = 1
        self.load(shapes, scattered=False)

    # -- loading ---------------------------------------------------------------------------------------------------

    @rule(shapes=st.lists(task_shapes, min_size=1, max_size=8), scattered=st.booleans())
    def load(self, shapes: list[Shape], scattered: bool) -> None:
        tasks, expected = self._tasks(shapes, scattered=scattered)
        change = self.state.load(tasks=tasks)
        self._loaded(change, expected)

    @rule(shapes=st.lists(task_shapes, min_size=1, max_size=4), new_resources=st.booleans())
    def plan(self, shapes: list[Shape], new_resources: bool) -> None:
        tasks, expected = self._tasks(shapes, scattered=True)
        resources: list[TaskResources] = []
        if new_resources:
            own = 100 + self.next_id
            resources = [TaskResources(own, memory_mib=7, runtime_seconds=2.5)]
            self.reference.resources = {**self.reference.resources, own: Asked(7, runtime=2.5)}
            tasks = [_with_resources(task, own) for task in tasks]
            for each in expected:
                each.resources = own
        columns = TaskColumns.from_tasks(tasks)
        self.planned = plan_load(KnownIds.of(self.state.table), Load((), resources, columns)), expected

    @rule()
    def commit_the_plan(self) -> None:
        if self.planned is None:
            return
        plan, expected = self.planned
        self.planned = None
        if plan.first_row == self.state.task_count:
            self._loaded(self.state.commit_load(plan), expected)
        else:
            with pytest.raises(RuntimeError):
                self.state.commit_load(plan)

    # -- scheduling ------------------------------------------------------------------------------------------------

    @rule(max_size=st.integers(1, 4), most=st.integers(1, 4))
    def take(self, max_size: int, most: int = 1) -> None:
        had_work, capacity = self.state.has_work(), self.state.available_capacity
        batches = self.state.take_batches(most, max_size)
        expected = [batch for batch in (self.reference.take(max_size) for _ in range(most)) if batch is not None]
        assert had_work == bool(batches)
        assert len(batches) == len(expected)
        assert sum(len(batch) for batch in batches) <= capacity
        for batch, wanted in zip(batches, expected, strict=True):
            self._is_as(batch, wanted)

    def _is_as(self, batch: Batch, expected: RefBatch) -> None:
        assert batch.task_ids.tolist() == expected.task_ids
        assert batch.attempts.tolist() == [attempt for _, attempt, _ in expected.members]
        assert (batch.array_id, batch.priority) == (expected.array_id, expected.priority)
        assert (batch.task_resources.memory_mib, batch.task_resources.queue) == (expected.memory, expected.queue)
        assert batch.batch_id not in self.batch_ids
        self._is_within_limits(batch.array_id)
        for task_id, attempt in zip(expected.task_ids, batch.attempts.tolist(), strict=True):
            assert attempt > self.highest_attempt.get(task_id, 0)
        self.batch_ids.add(batch.batch_id)
        self.open.append((batch, expected))

    @rule(max_size=st.integers(1, 3), generous=st.booleans())
    def take_all_that_goes(self, max_size: int, generous: bool) -> None:
        if generous:
            self.let_go()
        for _ in range(20):
            if not self.state.has_work():
                break
            self.take(max_size)

    @rule(pick=PICKS, status=st.sampled_from("QQQR"))
    def accept(self, pick: int, status: str) -> None:
        if not self.open:
            self.take(4)
            return
        batch, expected = self._close(pick)
        self.state.settle(batch)
        self._tell([Group(status, expected.task_ids, batch.attempts.tolist())])

    @rule(pick=PICKS)
    def refuse(self, pick: int) -> None:
        if not self.open:
            self.take(4)
            return
        batch, expected = self._close(pick)
        assert self.state.give_back(batch) == self.reference.give_back(expected)
        assert batch.batch_id not in self.state.open_batches

    @rule(pick=PICKS, some=SOME)
    def refuse_some(self, pick: int, some: list[int]) -> None:
        if not self.open:
            self.take(4)
            return
        batch, expected = self._close(pick)
        refused = sorted({expected.task_ids[each % len(expected.task_ids)] for each in some})
        assert self.state.give_back(batch, refused) == self.reference.give_back(expected, refused)
        self.state.settle(batch)
        kept = [(each, attempt) for each, attempt, _ in expected.members if each not in refused]
        self._tell([Group("Q", [each for each, _ in kept], [attempt for _, attempt in kept])])

    @rule(pick=PICKS)
    def answer_twice(self, pick: int) -> None:
        """Whatever an engine says of a batch that is closed already is harmless to what came after."""
        if not self.over:
            return
        batch, expected = self.over[pick % len(self.over)]
        assert self.state.give_back(batch) == self.reference.give_back(expected)

    @rule(pick=PICKS)
    def doubt(self, pick: int) -> None:
        if not self.open:
            self.take(4)
            return
        batch, _ = self.open[pick % len(self.open)]
        if batch.batch_id not in self.state.open_batches:
            return  # news has reached all of its tasks
        self.state.doubt(batch, "the line went dead")
        in_doubt = [
            each for each, _ in self.open if (known := self.state.open_batches.get(each.batch_id)) and known.in_doubt
        ]
        assert batch in in_doubt
        assert self.state.counts().in_doubt == sum(
            len(self.reference.still_reserved(ref)) for each, ref in self.open if each in in_doubt
        )

    # -- news ------------------------------------------------------------------------------------------------------

    @rule(groups=st.lists(st.tuples(NEWS, SOME, FENCES), min_size=1, max_size=3))
    def news(self, groups: list[tuple[str, list[int], str]]) -> None:
        told = []
        for status, picks, fence in groups:
            task_ids = [self.ids[pick % len(self.ids)] for pick in picks]
            told.append(Group(status, task_ids, self._attempts(task_ids, fence)))
        self._tell(told)

    @rule(status=st.sampled_from("RDDDEAF"), most=st.integers(1, 10))
    def news_of_what_runs(self, status: str, most: int) -> None:
        running = [task for task in self.reference.tasks.values() if task.status in "QIOR"][:most]
        self._tell([Group(status, [task.task_id for task in running], [task.attempt for task in running])])

    @rule(pick=PICKS, fenced=st.booleans())
    def finish_what_a_task_waits_for(self, pick: int, fenced: bool) -> None:
        waiting = [task for task in self.reference.tasks.values() if self.reference.upstreams_left(task)]
        if waiting:
            upstreams = sorted(waiting[pick % len(waiting)].upstreams)
            attempts = [self.reference.tasks[each].attempt for each in upstreams] if fenced else None
            self._tell([Group("D", upstreams, attempts)])

    # -- commands --------------------------------------------------------------------------------------------------

    @rule(picks=st.lists(PICKS, min_size=1, max_size=2))
    def cancel(self, picks: list[int]) -> None:
        task_ids = [self.ids[pick % len(self.ids)] for pick in picks]
        change = self.state.cancel(only(*task_ids), reason="no longer wanted")
        stopped, left_alone = self.reference.cancel(task_ids)
        told = [] if change.stopped_ids is None else change.stopped_ids.tolist()
        assert sorted(told) == sorted(stopped)
        assert change.left_alone_count == left_alone

    @rule(picks=SOME, include_downstreams=st.booleans())
    def reset(self, picks: list[int], include_downstreams: bool) -> None:
        task_ids = [self.ids[pick % len(self.ids)] for pick in picks]
        change = self.state.reset(only(*task_ids), include_downstreams=include_downstreams)
        assert change.newly_ready_count == self.reference.reset(task_ids, include_downstreams=include_downstreams)

    @rule(pick=PICKS, how=st.sampled_from(["reset", "cancel", "lose"]))
    def disturb_what_is_being_queued(self, pick: int, how: str) -> None:
        """The upstreams of a batch under way are reset, or its tasks cancelled and reset, or told to have failed."""
        if not self.open:
            self.take(4)
            return
        _, batch = self.open[pick % len(self.open)]
        tasks = [self.reference.tasks[each] for each in batch.task_ids]
        if how == "reset":
            upstreams = sorted({upstream for task in tasks for upstream in task.upstreams})
            if upstreams:
                self.state.reset(only(*upstreams))
                self.reference.reset(upstreams, include_downstreams=False)
        elif how == "cancel":
            self.state.cancel(only(batch.task_ids[0]))
            self.reference.cancel(batch.task_ids[:1])
            self.state.reset(only(batch.task_ids[0]))
            self.reference.reset(batch.task_ids[:1], include_downstreams=False)
        else:
            self._tell([Group("E", batch.task_ids[:2], [attempt for _, attempt, _ in batch.members[:2]])])

    @rule(pick=PICKS)
    def reset_what_a_ready_task_waited_for(self, pick: int) -> None:
        ready = [task for task in self.reference.ready() if task.upstreams]
        if ready:
            upstreams = sorted(ready[pick % len(ready)].upstreams)
            self.state.reset(only(*upstreams))
            self.reference.reset(upstreams, include_downstreams=False)

    @rule(status=st.sampled_from("FX"))
    def reset_all_that_are(self, status: str) -> None:
        meant = [task.task_id for task in self.reference.tasks.values() if task.status == status]
        change = self.state.reset(Selector(statuses=[TaskStatus(status)]))
        assert change.newly_ready_count == self.reference.reset(meant, include_downstreams=False)

    @rule(limit=LIMITS)
    def set_the_limit(self, limit: int) -> None:
        self.state.apply_update(StateUpdate(max_concurrently_running=limit))
        self.reference.limit = limit

    @rule(array_id=st.sampled_from([*ARRAYS]), limit=LIMITS | st.none())
    def set_an_array_limit(self, array_id: int, limit: int | None) -> None:
        self.state.apply_update(StateUpdate(array_limits={array_id: limit}))
        self.reference.array_limits[array_id] = limit

    @rule(queue=QUEUES, most=MOST)
    def set_what_a_queue_can_hold(self, queue: str, most: int | None) -> None:
        is_new = queue not in self.reference.queue_limits or self.reference.queue_limits[queue] != most
        change = self.state.apply_update(StateUpdate(queue_limits=[QueueLimits("", queue, memory_mib=most)]))
        assert change.is_empty == (not is_new)
        self.reference.queue_limits[queue] = most

    @rule(most=st.integers(1, 10), queue=QUEUES, limit=MOST)
    def run_out_of_memory(self, most: int, queue: str, limit: int | None) -> None:
        """Everything that runs, over and over, so that resources grow until something caps them."""
        self.set_what_a_queue_can_hold(queue, limit)
        self.take_all_that_goes(4, generous=True)
        while self.open:
            self.accept(0, "R")
        self.news_of_what_runs("A", most)

    @invariant()
    def all_resources_have_ids_of_their_own(self) -> None:
        known = [each.task_resources_id for each in self.state.table.resources]
        assert len(set(known)) == len(known)

    @rule(how=st.sampled_from(["paused", "fail_fast", "stopped", "resuming"]))
    def hold(self, how: str) -> None:
        if how in ("paused", "fail_fast"):
            self.state.configure(paused=how == "paused", fail_fast=how == "fail_fast")
            self.reference.paused, self.reference.fail_fast = how == "paused", how == "fail_fast"
        else:
            self.state.apply_update(StateUpdate(workflow_run_status="S" if how == "stopped" else "C"))
            self.reference.running = False

    @rule()
    def let_go(self) -> None:
        """Nothing holds the swarm any more."""
        self.state.configure(paused=False, fail_fast=False)
        self.state.apply_update(
            StateUpdate(max_concurrently_running=50, array_limits={30: 5}, workflow_run_status=str(RunStatus.RUNNING))
        )
        self.reference.paused = self.reference.fail_fast = False
        self.reference.running, self.reference.limit, self.reference.array_limits[30] = True, 50, 5

    # -- what must hold at all times -------------------------------------------------------------------------------

    @invariant()
    def agrees_with_itself(self) -> None:
        assert inconsistencies(self.state) == []

    @invariant()
    def stands_like_the_reference(self) -> None:
        table = self.state.table
        told = {
            int(table.task_id[row]): (
                "V" if table.status[row] == Code.RESERVED else str(STATUS_OF[table.status[row]]),
                int(table.attempt[row]),
                int(table.failures[row]),
                int(table.upstreams_left[row]),
                table.resources_of(row).memory_mib,
                table.resources_of(row).queue,
            )
            for row in range(table.size)
        }
        expected = {
            task.task_id: (
                task.status,
                task.attempt,
                task.failures,
                self.reference.upstreams_left(task),
                task.memory,
                task.queue,
            )
            for task in self.reference.tasks.values()
        }
        assert told == expected

    @invariant()
    def waits_in_the_same_order(self) -> None:
        table = self.state.table
        told = {tuple(table.task_id[rows].tolist()) for rows in table.queue.entries().values() if rows}
        assert told == {tuple(lane) for lane in self.reference.lanes().values()}

    @invariant()
    def would_queue_the_same_next(self) -> None:
        first = self.reference.next_lane()
        assert self.state.has_work() == bool(first)
        lane = self.state.table.queue.next_lane()
        if first:
            assert lane is not None
            assert int(self.state.table.task_id[self.state.table.queue.entries()[lane.row][0]]) == first[0].task_id

    @invariant()
    def counts_alike(self) -> None:
        counts = self.state.counts()
        assert counts.total == len(self.reference.tasks)
        assert counts.active == self.state.active_count == self.reference.active()
        assert counts.ready == self.state.ready_count == len(self.reference.ready())
        for array_id in ARRAYS:
            of_array = self.state.array_counts(array_id)
            assert of_array.active == self.reference.active(array_id)
            assert of_array.ready == sum(task.array_id == array_id for task in self.reference.ready())

    @invariant()
    def ends_alike(self) -> None:
        assert self.state.finished == self.reference.finished
        assert self.state.outcome == self.reference.outcome

    @invariant()
    def attempts_and_revisions_only_rise(self) -> None:
        for task in self.reference.tasks.values():
            assert task.attempt >= self.highest_attempt.get(task.task_id, 0)
            self.highest_attempt[task.task_id] = task.attempt
        assert self.state.revision >= self.revision
        self.revision = self.state.revision

    # -- how ---------------------------------------------------------------------------------------------------------

    def _tasks(self, shapes: list[Shape], *, scattered: bool) -> tuple[list[Task], list[RefTask]]:
        """New tasks: upstreams are earlier ones of the load or any of an earlier load; some loads go backwards."""
        new_ids = [self.next_id + (place * 7919 % 101 + 1 if scattered else place) for place in range(len(shapes))]
        self.next_id += 200
        known = self.ids + new_ids
        tasks, expected = [], []
        for place, (task_id, shape) in enumerate(zip(new_ids, shapes, strict=True)):
            before = known[: len(self.ids) + place]
            upstreams = [before[pick % len(before)] for pick in shape["upstreams"]] if before else []
            scales = {"memory": shape["scale"]} if shape["scale"] else {}
            tasks.append(
                Task(
                    task_id,
                    shape["array"],
                    shape["resources"],
                    upstream_task_ids=tuple(upstreams),
                    status=TaskStatus(shape["status"]),
                    max_attempts=shape["max_attempts"],
                    priority=shape["priority"],
                    resource_scales=scales,
                )
            )
            is_active = shape["status"] in "QR"
            expected.append(
                RefTask(
                    task_id,
                    0,
                    shape["array"],
                    shape["resources"],
                    0,
                    shape["scale"],
                    shape["priority"],
                    frozenset(upstreams),
                    shape["max_attempts"],
                    status=shape["status"],
                    attempt=1 if is_active else 0,
                )
            )
        if shapes[0]["forwards"]:
            return tasks, expected
        return tasks[::-1], expected[::-1]

    def _loaded(self, change: Change, expected: list[RefTask]) -> None:
        assert change.newly_ready_count == self.reference.load(expected)
        assert change.added_task_count == len(expected)
        self.ids += [task.task_id for task in expected]

    def _tell(self, groups: list[Group]) -> None:
        statuses = TaskStatuses()
        for group in groups:
            statuses.add(TaskStatus(group.status), group.task_ids, group.attempts)
        change = self.state.apply_update(StateUpdate(statuses))
        told = self.reference.update(groups)
        ignored: dict[str, list[int]] = {}
        for each in change.ignored:
            ignored.setdefault(each.effect.name, []).extend(each.task_ids.tolist())
        assert ignored == told.ignored
        assert (change.changed_count, change.newly_ready_count) == (told.changed, told.newly_ready)
        assert change.finished == self.state.finished

    def _attempts(self, task_ids: list[int], fence: str) -> list[int] | None:
        own = [self.reference.tasks[each].attempt for each in task_ids]
        if fence == "none":
            return None
        if fence == "mixed":
            return [max(0, attempt + place % 4 - 2) for place, attempt in enumerate(own)]
        by = {"own": 0, "older": -1, "ahead": 2}[fence]
        return [max(0, attempt + by) for attempt in own]

    def _close(self, pick: int) -> tuple[Batch, RefBatch]:
        pair = self.open.pop(pick % len(self.open))
        self.over.append(pair)
        return pair

    def _is_within_limits(self, array_id: int) -> None:
        assert self.state.active_count <= self.state.max_concurrently_running
        limit = self.reference.array_limits[array_id]
        assert limit is None or self.state.array_counts(array_id).active <= limit


def _with_resources(task: Task, resources: int) -> Task:
    return Task(
        task.task_id,
        task.array_id,
        resources,
        upstream_task_ids=task.upstream_task_ids,
        status=task.status,
        max_attempts=task.max_attempts,
        priority=task.priority,
        resource_scales=task.resource_scales,
    )


class LongestPathFirst(SideBySide):
    """The same, by remaining paths; what is loaded later makes those of earlier tasks longer."""

    policy = SchedulingPolicy.LONGEST_PATH_FIRST

    @invariant()
    def paths_are_those_of_the_reference(self) -> None:
        table, expected = self.state.table, self.reference.path_seconds()
        assert table.paths is not None
        ids, remaining = table.task_id[: table.size].tolist(), table.paths.remaining[: table.size].tolist()
        assert dict(zip(ids, remaining, strict=True)) == pytest.approx(expected)


class FairShare(SideBySide):
    """The same, by turns of arrays."""

    policy = SchedulingPolicy.FAIR_SHARE


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=timedelta(seconds=5),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


SideBySide.TestCase.settings = _settings(300)
LongestPathFirst.TestCase.settings = FairShare.TestCase.settings = _settings(150)
TestSideBySide = SideBySide.TestCase
TestLongestPathFirst = LongestPathFirst.TestCase
TestFairShare = FairShare.TestCase


def test_the_reference_itself_follows_the_design() -> None:
    """A sanity check of the model: two tasks, one behind the other, a limit of one."""
    reference = Reference(1, {1: None}, {1: Asked(10)})
    first = RefTask(1, 0, 1, 1, 0, 0.0, 0, frozenset(), 3)
    reference.load([first, RefTask(2, 0, 1, 1, 0, 0.0, 0, frozenset({1}), 3)])
    batch = reference.take(500)
    assert batch is not None
    assert batch.task_ids == [1]
    assert reference.take(500) is None
    assert reference.update([Group("D", [1])]).newly_ready == 1
    second = reference.take(500)
    assert second is not None
    assert second.task_ids == [2]
    assert np.isclose(reference.active(), 1)
