"""How long recorded workflows take on simulated cores, beside what no order of work can beat.

The core decides, as in the daemon; time is a number. A task takes its recorded runtime, nothing else takes any.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.suite.results import Curve, Results, Row, Spread, times_as_good
from benchmarks.suite.setting import RECORDINGS, Setting

from swarmd.core.model import Task
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.workflow import WorkflowPlan, read_wfformat

PANEL = "makespan over the critical path or work / cores"
Y_LABEL = "times the bound"
LIMIT = "no order can be below"
NEAR = 1 / 1.05


@dataclass(frozen=True, slots=True)
class Policy:
    """An order of work, and the workflow as a swarm with that order is given it."""

    name: str
    scheduling_policy: SchedulingPolicy
    plan: Callable[[Path], WorkflowPlan]


def _stated(file: Path) -> WorkflowPlan:
    """As `swarmd run --wfformat FILE --scheduling-policy longest_path_first` loads it."""
    return read_wfformat(file, scheduling_policy=LONGEST)


def _learned(file: Path) -> WorkflowPlan:
    """No runtimes, and no recorded priorities either."""
    plan = read_wfformat(file)
    return replace(plan, tasks=[replace(task, priority=0) for task in plan.tasks])


FIRST, LONGEST = SchedulingPolicy.FIRST_COME_FIRST_SERVED, SchedulingPolicy.LONGEST_PATH_FIRST
BEST = Policy("longest path first", LONGEST, _stated)
"""What the rows are about: the order that is meant to make makespans short, when runtimes are known."""
POLICIES: tuple[Policy, ...] = (
    BEST,
    Policy("with runtimes learned", LONGEST, _learned),
    Policy("first come, first served", FIRST, read_wfformat),
)


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

    def sharper_bounds(self, cores: Sequence[int]) -> list[float]:
        """As `bound`, and nearer to what can be done: tasks that begin late and have much behind them share the cores.

        All tasks that begin no earlier than h, with chains of t or longer behind them, take h + t and the longer of two
        times between: their work / cores, and what a core takes that must do several of them one after the other.
        """
        heads, tails = self.lengths()
        found = [self.bound(each) for each in cores]
        columns = np.array([(heads[each], self.seconds[each], tails[each]) for each in heads])
        for head in np.unique(columns[:, 0]):
            late = columns[columns[:, 0] >= head]
            for tail in np.unique(late[:, 2]):
                longest_first = np.sort(late[late[:, 2] >= tail, 1])[::-1]
                sums = np.concatenate(([0.0], np.cumsum(longest_first)))
                for place, each in enumerate(cores):
                    found[place] = max(found[place], head + tail + _shared(sums, each))
        return found

    def bound(self, cores: int) -> float:
        """What no order of work can beat: the critical path, or all work shared evenly, whichever is longer."""
        return max(self.critical_path(), sum(self.seconds.values()) / cores)


def _shared(sums: np.ndarray, cores: int) -> float:
    """What so many cores take at least for tasks, from the sums of the first 0, 1, 2, ... of them, the longest first.

    Of the first k * cores + 1 tasks some core has k + 1, which are as long as the last k + 1 of them or longer.
    """
    ends = np.arange(cores + 1, len(sums), cores)
    several = sums[ends] - sums[ends - 1 - np.arange(1, len(ends) + 1)]
    return float(max(sums[-1] / cores, several.max(initial=0.0)))


def simulated(recording: Recording, cores: int, policy: SchedulingPolicy) -> float:
    """The makespan in seconds on so many cores, each of which runs one task at a time."""
    plan = recording.plan
    state = SwarmState("simulated", max_concurrently_running=cores, scheduling_policy=policy)
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


def recorded_workflows(results: Results, setting: Setting) -> None:
    """The makespan of each recording over numbers of cores, with each order of work."""
    files = sorted(RECORDINGS.glob("*.json"))
    if not files:
        results.remarks.append(
            "no makespans: the recorded workflows (../shared/workflows) are not beside this checkout"
        )
    for file in files:
        measure(results, file, setting.sizes.cores)


def measure(results: Results, file: Path, cores: Sequence[int]) -> None:
    """The row of one recording with the best of the orders, where it is worst; the curves of all of them."""
    kind = file.stem.partition("-")[0]
    recording = Recording.of(BEST.plan(file))
    bounds, sharper = np.array([recording.bound(each) for each in cores]), np.array(recording.sharper_bounds(cores))
    spans = {policy.name: _spans(file, policy, cores) for policy in POLICIES}
    best = spans[BEST.name]
    worst, near = int(np.argmin(bounds / best)), int(np.sum(bounds / best >= NEAR))
    others = (f"{name} {bounds[worst] / each[worst]:.3f}x" for name, each in spans.items() if name != BEST.name)
    note = (
        f"at {cores[worst]:,} cores, the worst; within 5% at {near} of {len(cores)} numbers from {cores[0]} to "
        f"{cores[-1]:,}; no order can be above {bounds[worst] / sharper[worst]:.3f}x there; {min(sharper / best):.0%} "
        f"or more of what can be everywhere; there: {', '.join(others)}"
    )
    ours, bound = Spread.of(float(best[worst])), Spread.of(float(bounds[worst]))
    goal = times_as_good(NEAR, "within 5%")
    name = f"makespan of {kind}, {BEST.name}"
    results.rows.append(Row(name, "s", ours, bound, "critical path or work / cores", goal, note=note))
    for label, each in (*spans.items(), (LIMIT, sharper)):
        ys = (each / bounds).tolist()
        curve = Curve(f"{PANEL}: {kind}", label, "cores", Y_LABEL, cores, ys, log_y=False, is_limit=label == LIMIT)
        results.curves.append(curve)


def _spans(file: Path, policy: Policy, cores: Sequence[int]) -> np.ndarray:
    recording = Recording.of(policy.plan(file))
    return np.array([simulated(recording, each, policy.scheduling_policy) for each in cores])
