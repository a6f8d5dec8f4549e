"""How long recorded workflows take on simulated cores, beside what no order of work can beat.

The core decides, as in the daemon; time is a number. A task takes its recorded runtime, nothing else takes any.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from benchmarks.suite.results import Curve, Results, Row, Spread, times_as_good
from benchmarks.suite.setting import RECORDINGS, Setting

from swarmd.core.model import Task
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.workflow import WorkflowPlan, read_wfformat

PANEL = "makespan of recorded workflows over what no order can beat"


@dataclass(frozen=True, slots=True)
class Policy:
    """An order of work: its name, and a swarm that has it, with so many cores."""

    name: str
    swarm: Callable[[int], SwarmState]


def _first_come(cores: int) -> SwarmState:
    return SwarmState("simulated", max_concurrently_running=cores)


POLICIES: tuple[Policy, ...] = (Policy("first come, first served", _first_come),)
"""Every order that a swarm can have."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded workflow with the runtimes of its tasks."""

    plan: WorkflowPlan
    seconds: dict[int, float]
    """By task id."""

    @classmethod
    def of(cls, plan: WorkflowPlan) -> "Recording":
        """The runtimes as the replay would sleep them."""
        commands = {task.task_id: task.command.split() for task in plan.tasks}
        return cls(plan, {each: float(words[1]) if len(words) > 1 else 0.0 for each, words in commands.items()})

    def lengths(self) -> tuple[dict[int, float], dict[int, float]]:
        """Of each task: when it can begin at the earliest, and how long the longest chain is that waits for its end."""
        heads: dict[int, float] = {}
        order = self._in_order()
        for task in order:
            upstreams = task.upstream_task_ids
            heads[task.task_id] = max((heads[each] + self.seconds[each] for each in upstreams), default=0.0)
        tails = dict.fromkeys(heads, 0.0)
        for task in reversed(order):
            behind = self.seconds[task.task_id] + tails[task.task_id]
            for each in task.upstream_task_ids:
                tails[each] = max(tails[each], behind)
        return heads, tails

    def _in_order(self) -> list[Task]:
        """Upstreams first."""
        tasks, seen, order = {task.task_id: task for task in self.plan.tasks}, set[int](), list[Task]()
        waiting = list(tasks)
        while waiting:
            task = tasks[waiting[-1]]
            missing = [each for each in task.upstream_task_ids if each not in seen]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if task.task_id not in seen:
                seen.add(task.task_id)
                order.append(task)
        return order

    def critical_path(self) -> float:
        """The longest chain of tasks that wait for each other."""
        heads, tails = self.lengths()
        return max(heads[each] + self.seconds[each] + tails[each] for each in heads)

    def sharper_bound(self, cores: int) -> float:
        """As `bound`, and nearer to what can be done: tasks that begin late and have much behind them share the cores.

        All tasks that begin no earlier than h, with chains of t or longer behind them, take h + their work / cores + t.
        """
        heads, tails = self.lengths()
        found = self.bound(cores)
        columns = np.array([(heads[each], self.seconds[each], tails[each]) for each in heads])
        for head in np.unique(columns[:, 0]):
            late = columns[columns[:, 0] >= head]
            late = late[np.argsort(-late[:, 2], kind="stable")]
            found = max(found, float(np.max(head + np.cumsum(late[:, 1]) / cores + late[:, 2])))
        return found

    def bound(self, cores: int) -> float:
        """What no order of work can beat: the critical path, or all work shared evenly, whichever is longer."""
        return max(self.critical_path(), sum(self.seconds.values()) / cores)


def simulated(recording: Recording, cores: int, policy: Policy) -> float:
    """The makespan in seconds on so many cores, each of which runs one task at a time."""
    state, plan = policy.swarm(cores), recording.plan
    state.load(plan.arrays, plan.task_resources, plan.tasks)
    now, running = 0.0, list[tuple[float, int]]()
    while True:
        for task_id in _queued(state, now):
            heapq.heappush(running, (now + recording.seconds[task_id], task_id))
        if not running:
            break
        now = running[0][0]
        over = []
        while running and running[0][0] <= now:
            over.append(heapq.heappop(running)[1])
        done = TaskStatuses()
        done.add(TaskStatus.DONE, over)
        state.apply_update(StateUpdate(done), at=now)
    if state.counts().done != len(plan.tasks):
        raise RuntimeError(f"{state.counts().done} of {len(plan.tasks)} tasks are done at the end of the simulation")
    return now


def _queued(state: SwarmState, now: float) -> list[int]:
    """The tasks that a tick would queue now; an instant engine runs them at once."""
    taken: list[int] = []
    while (batch := state.take_batch(at=now)) is not None:
        state.settle(batch)
        running = TaskStatuses()
        running.add(TaskStatus.RUNNING, batch.task_ids, batch.attempts)
        state.apply_update(StateUpdate(running), at=now)
        taken += batch.task_ids.tolist()
    return taken


def recorded_workflows(results: Results, setting: Setting, policies: Sequence[Policy] = POLICIES) -> None:
    """The makespan of each recording with each order of work, over numbers of cores; the worst of them counts."""
    files = sorted(RECORDINGS.glob("*.json"))
    if not files:
        results.remarks.append(
            "no makespans: the recorded workflows (../shared/workflows) are not beside this checkout"
        )
    for file in files:
        recording = Recording.of(read_wfformat(file))
        for policy in policies:
            measure(results, file.stem.partition("-")[0], recording, policy, setting.sizes.cores)


def measure(results: Results, kind: str, recording: Recording, policy: Policy, cores: Sequence[int]) -> None:
    """The row and the curve of one recording with one order of work."""
    spans = np.array([simulated(recording, each, policy) for each in cores])
    bounds = np.array([recording.bound(each) for each in cores])
    worst = int(np.argmax(spans / bounds))
    name = f"makespan of {kind}, {policy.name}"
    goal = times_as_good(1 / 1.05, "within 5%")
    possible = bounds[worst] / recording.sharper_bound(cores[worst])
    note = f"at {cores[worst]} cores, the worst of {cores[0]} to {cores[-1]:,}; no order can be above {possible:.3f}x"
    ours, bound = Spread.of(float(spans[worst])), Spread.of(float(bounds[worst]))
    results.rows.append(Row(name, "s", ours, bound, "critical path or work / cores", goal, note=note))
    label = f"{kind}, {policy.name}"
    results.curves.append(
        Curve(PANEL, label, "cores", "times the bound", cores, (spans / bounds).tolist(), log_y=False)
    )
