"""A naive swarm, written from DESIGN section 4 and not from the code: plain dicts and lists, everything recomputed.

`test_stateful.py` drives it and the real core side by side. Slow on purpose and obvious on purpose.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log2

from swarmd.core.policy import SchedulingPolicy

ACTIVE_ORDER = "QIOR"
ACTIVE = "VQIOR"
"""V: reserved, in a batch that is being queued or in doubt."""
FINAL = "DFX"

Lane = tuple[int, int, int, int, tuple[tuple[float, str, int], ...]]


@dataclass(frozen=True)
class Asked:
    """Resources as they were loaded."""

    memory: int
    queue: str = ""
    fallbacks: tuple[str, ...] = ()
    runtime: float = 1.0


@dataclass
class RefTask:
    task_id: int
    order: int
    array_id: int
    resources: int
    """The id that was loaded."""
    memory: int
    scale: float
    priority: int
    upstreams: frozenset[int]
    max_attempts: int
    status: str = "G"
    attempt: int = 0
    failures: int = 0
    since: int | None = None
    """When it became ready, as a number; None: it does not wait in a lane."""
    queue: str = ""
    fallbacks: tuple[str, ...] = ()
    path: int = 0
    """The class of its remaining path, where the policy asks for it."""
    growth: tuple[tuple[float, str, int], ...] = ()
    """Each time that its resources became others: the scale, and the queue and memory that came of it."""

    @property
    def lane(self) -> Lane:
        """Adjusted resources are shared by those that began alike and grew alike."""
        return (self.priority, self.array_id, self.resources, self.path, self.growth)


@dataclass
class RefBatch:
    number: int
    array_id: int
    priority: int
    memory: int
    queue: str
    members: list[tuple[int, int, int]]
    """(task id, attempt, since when it had waited)."""

    @property
    def task_ids(self) -> list[int]:
        return [task_id for task_id, _, _ in self.members]


@dataclass
class Told:
    """What an update did."""

    changed: int = 0
    newly_ready: int = 0
    ignored: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Group:
    status: str
    task_ids: list[int]
    attempts: list[int] | None = None


class Reference:
    """A swarm as the design tells it."""

    def __init__(
        self,
        limit: int,
        array_limits: dict[int, int | None],
        resources: dict[int, Asked],
        policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED,
    ) -> None:
        self.policy = policy
        self.turns = dict.fromkeys(array_limits, 0)
        """By array, the number of its last batch."""
        self.limit = limit
        self.array_limits = array_limits
        self.resources = resources
        self.queue_limits: dict[str, int | None] = {}
        """The most memory that a queue can hold; None: any."""
        self.tasks: dict[int, RefTask] = {}
        self.paused = False
        self.fail_fast = False
        self.running = True
        self.batches = 0
        self._back = 0
        self._front = 0

    # -- what it is asked ------------------------------------------------------------------------------------------

    def active(self, array_id: int | None = None) -> int:
        return sum(task.status in ACTIVE and array_id in (None, task.array_id) for task in self.tasks.values())

    def ready(self) -> list[RefTask]:
        return sorted(
            (task for task in self.tasks.values() if task.since is not None), key=lambda task: task.since or 0
        )

    def lanes(self) -> dict[Lane, list[int]]:
        lanes: dict[Lane, list[int]] = {}
        for task in self.ready():
            lanes.setdefault(task.lane, []).append(task.task_id)
        return lanes

    def upstreams_left(self, task: RefTask) -> int:
        return sum(self.tasks[each].status != "D" for each in task.upstreams)

    @property
    def failed_fast(self) -> bool:
        return self.fail_fast and any(task.status == "F" for task in self.tasks.values())

    @property
    def held(self) -> bool:
        return self.paused or not self.running or self.failed_fast

    @property
    def finished(self) -> bool:
        stuck = not self.ready() or self.failed_fast
        return bool(self.tasks) and stuck and not self.active()

    @property
    def outcome(self) -> str:
        if not self.finished:
            return "UNFINISHED"
        return "DONE" if all(task.status == "D" for task in self.tasks.values()) else "ERROR"

    def _room(self, array_id: int) -> int:
        limit = self.array_limits[array_id]
        in_array = 10**9 if limit is None else limit - self.active(array_id)
        return max(0, min(in_array, self.limit - self.active()))

    # -- what happens to it ----------------------------------------------------------------------------------------

    def load(self, tasks: Iterable[RefTask]) -> int:
        fresh = list(tasks)
        for task in fresh:
            task.order = len(self.tasks)
            asked = self.resources[task.resources]
            task.memory, task.queue, task.fallbacks = asked.memory, asked.queue, asked.fallbacks
            self.tasks[task.task_id] = task
        if self.policy is SchedulingPolicy.LONGEST_PATH_FIRST:
            self._class_paths()
        return self._ready_if_free(fresh)

    def path_seconds(self) -> dict[int, float]:
        """The remaining path of every task: its runtime and the longest of those behind it."""
        after: dict[int, list[int]] = {}
        for task in self.tasks.values():
            for upstream in task.upstreams:
                after.setdefault(upstream, []).append(task.task_id)
        known: dict[int, float] = {}

        def path(task_id: int) -> float:
            if task_id not in known:
                behind = max((path(each) for each in after.get(task_id, ())), default=0.0)
                known[task_id] = self.resources[self.tasks[task_id].resources].runtime + behind
            return known[task_id]

        return {task_id: path(task_id) for task_id in self.tasks}

    def _class_paths(self) -> None:
        """Who waits and is of another class now waits behind all others, in the order in which it had waited."""
        classes = {task_id: floor(16 * log2(path)) for task_id, path in self.path_seconds().items()}
        for task in self.ready():
            if task.path != classes[task.task_id]:
                self._back += 1
                task.since = self._back
        for task in self.tasks.values():
            task.path = classes[task.task_id]

    def _open(self) -> dict[int, list[RefTask]]:
        """The ready tasks of each array that has room, the swarm's own room aside."""
        found: dict[int, list[RefTask]] = {}
        for task in self.ready():
            limit = self.array_limits[task.array_id]
            if limit is None or self.active(task.array_id) < limit:
                found.setdefault(task.array_id, []).append(task)
        return found

    def _whose_turn(self) -> int:
        """The array that goes next when arrays share fairly."""
        waiting = self._open()
        return min(
            waiting,
            key=lambda each: (
                -max(task.priority for task in waiting[each]),
                self.active(each),
                self.turns[each],
                [*self.array_limits].index(each),
            ),
        )

    def _share(self) -> int:
        if self.policy is not SchedulingPolicy.FAIR_SHARE:
            return 500
        return max(1, ceil((self.limit - self.active()) / len(self._open())), ceil(self.limit / 32))

    def next_lane(self) -> list[RefTask]:
        """All ready tasks of the lane that goes next."""
        if self.held:
            return []
        able = [task for task in self.ready() if self._room(task.array_id)]
        if not able:
            return []
        if self.policy is SchedulingPolicy.FAIR_SHARE:
            turn = self._whose_turn()
            able = [task for task in able if task.array_id == turn]
        first = min(able, key=lambda task: (-task.priority, -task.path, task.since))
        return [task for task in able if task.lane == first.lane]

    def take(self, max_size: int) -> RefBatch | None:
        waiting = self.next_lane()
        if not waiting:
            return None
        first = waiting[0]
        members = []
        for task in waiting[: min(max_size, 500, self._share(), self._room(first.array_id))]:
            task.attempt += 1
            members.append((task.task_id, task.attempt, task.since or 0))
            task.status, task.since = "V", None
        self.batches += 1
        self.turns[first.array_id] = self.batches
        return RefBatch(self.batches, first.array_id, first.priority, first.memory, first.queue, members)

    def still_reserved(self, batch: RefBatch) -> list[int]:
        return [
            task_id
            for task_id, attempt, _ in batch.members
            if self.tasks[task_id].status == "V" and self.tasks[task_id].attempt == attempt
        ]

    def give_back(self, batch: RefBatch, task_ids: Sequence[int] | None = None) -> int:
        coming = [each for each in self.still_reserved(batch) if task_ids is None or each in task_ids]
        for task_id, _, since in batch.members:
            task = self.tasks[task_id]
            if task_id in coming:
                task.status = "G"
                task.since = None if self.upstreams_left(task) else since
        return len(coming)

    def update(self, groups: Sequence[Group]) -> Told:
        told = Told()
        for group in groups:
            self._fold(group, told)
        return told

    def cancel(self, task_ids: Iterable[int]) -> tuple[list[int], int]:
        """Which active tasks are to be stopped, and how many were final already."""
        meant = [self.tasks[each] for each in set(task_ids)]
        stopped = [task.task_id for task in meant if task.status in ACTIVE]
        final = [task for task in meant if task.status in FINAL]
        for task in meant:
            if task not in final:
                task.status, task.since = "X", None
        return stopped, len(final)

    def reset(self, task_ids: Iterable[int], *, include_downstreams: bool) -> int:
        meant = set(task_ids)
        if include_downstreams:
            meant |= self._all_after(meant)
        again = [self.tasks[each] for each in meant if self.tasks[each].status in FINAL]
        for task in again:
            task.status, task.failures = "G", 0
        for task in self.tasks.values():
            if self.upstreams_left(task):
                task.since = None
        return self._ready_if_free(again)

    # -- how news is folded in -------------------------------------------------------------------------------------

    def _fold(self, group: Group, told: Told) -> None:
        attempts = group.attempts or [0] * len(group.task_ids)
        best: dict[int, int] = {}
        for task_id, attempt in zip(group.task_ids, attempts, strict=True):
            best[task_id] = max(attempt, best.get(task_id, 0))
        pairs = list(zip(group.task_ids, attempts, strict=True))
        once = sorted(((pairs.index(pair), pair) for pair in best.items()), key=lambda each: each[0])
        again: list[RefTask] = []
        front = False
        for _, (task_id, attempt) in once:
            task = self.tasks[task_id]
            verdict = self._judge(task, group.status, attempt)
            if verdict == "same":
                continue
            if verdict:
                told.ignored.setdefault(verdict, []).append(task_id)
                continue
            told.changed += 1
            if self._move(task, group.status, attempt):
                again.append(task)
                front = group.status == "A"
        if group.status == "D":
            told.newly_ready += self._ready_if_free(self.tasks.values())
        elif front:
            told.newly_ready += self._ready_at_front(again)
        else:
            told.newly_ready += self._ready_if_free(again, keep_order=True)

    def _judge(self, task: RefTask, news: str, attempt: int) -> str:
        """Why the news is stale; "same" when there is nothing to do; empty when it counts."""
        fenced, is_ahead = attempt > 0, attempt > task.attempt
        if task.status in FINAL:
            if news != task.status:
                return "STALE_FINAL"
            return "STALE_ATTEMPT" if fenced and attempt < task.attempt else "same"
        if task.status == "G":
            if news in "EA":
                return "STALE_NOT_QUEUED"
            if fenced and attempt < task.attempt:
                return "STALE_ATTEMPT"
            if news == "G":
                return "same"
            return "STALE_ATTEMPT" if fenced and not is_ahead else ""
        is_earlier = (
            task.status != "V" and news in ACTIVE_ORDER and ACTIVE_ORDER.index(news) < ACTIVE_ORDER.index(task.status)
        )
        if is_earlier and not is_ahead:
            return "STALE_FURTHER"
        if fenced and attempt < task.attempt:
            return "STALE_ATTEMPT"
        return "same" if news == task.status and not is_ahead else ""

    def _move(self, task: RefTask, news: str, attempt: int) -> bool:
        """Whether the task is to be ready again."""
        was_idle = task.status == "G"
        task.since = None
        if attempt > task.attempt:
            task.attempt = attempt
        elif was_idle and news in ACTIVE_ORDER:
            task.attempt += 1
        if news not in "EA":
            task.status = news
            return news == "G"
        task.failures += 1
        if task.failures >= task.max_attempts:
            task.status = "F"
            return False
        task.status = "G"
        if news == "A" and task.scale:
            self._grow(task)
        return True

    def _grow(self, task: RefTask) -> None:
        """To where it should be; in a queue that can hold it, or else no further than its own queue allows."""
        wanted = ceil(round(task.memory * (1 + task.scale), 6))
        can_hold = [
            queue
            for queue in (task.queue, *task.fallbacks)
            if (most := self.queue_limits.get(queue)) is None or wanted <= most
        ]
        queue = can_hold[0] if can_hold else task.queue
        if not can_hold:
            wanted = max(task.memory, min(wanted, self.queue_limits[queue] or 0))
        if (queue, wanted) != (task.queue, task.memory):
            task.queue, task.memory = queue, wanted
            task.growth = (*task.growth, (task.scale, queue, wanted))

    def _ready_if_free(self, tasks: Iterable[RefTask], *, keep_order: bool = False) -> int:
        free = [task for task in tasks if task.status == "G" and task.since is None and not self.upstreams_left(task)]
        for task in free if keep_order else sorted(free, key=lambda each: each.order):
            self._back += 1
            task.since = self._back
        return len(free)

    def _ready_at_front(self, tasks: Sequence[RefTask]) -> int:
        free = [task for task in tasks if not self.upstreams_left(task)]
        for task in reversed(free):
            self._front -= 1
            task.since = self._front
        return len(free)

    def _all_after(self, task_ids: set[int]) -> set[int]:
        after: set[int] = set()
        while True:
            more = {task.task_id for task in self.tasks.values() if task.upstreams & (task_ids | after)} - after
            if not more:
                return after
            after |= more
