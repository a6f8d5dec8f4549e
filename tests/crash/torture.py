"""Torture: a workflow of short tasks under `kill -9` at random moments, and the comparison with what really ran.

Tasks append lines to a record, `TASK ATTEMPT EVENT NANOSECONDS`, so that no daemon is asked what happened. Used by
`scripts/torture.py` for as long as one likes, and by `test_torture.py` for a moment.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2, task_pb2
from tests.crash.restarting import RestartedDaemon, calling, restarted
from tests.crash.surroundings import SURROUNDINGS
from tests.daemon import short_home

SWARM = "torture"
SECONDS = 60.0
SHORTEST_LIFE, LONGEST_LIFE = 0.2, 2.0
"""How long a daemon lives when it is ready, in seconds."""
SHORTEST_START, LONGEST_START = 0.3, 0.9
EARLY_KILLS = 0.15
"""So many are killed so early that most of them are not ready."""
LOAD_SECONDS = 0.1
"""About how long a load takes: the daemon is killed during each."""
STUCK_SECONDS = 120.0
"""So long nothing happens before it counts as stuck."""
SWARM_LIMIT = 8
ARRAY_LIMITS = {1: 5, 2: 3, 3: 8, 4: 1}
"""Of each array; all of them together would be more than the swarm may."""
FAILING = 7
"""Every task of which this is a divisor fails in its first attempt."""
LOAD_TASKS = 500
"""How many tasks are loaded at once."""

COMMAND = (
    'say() { echo "$SWARM_TASK_ID $SWARM_ATTEMPT $1 $(date +%s%N)" >>"$TORTURE_RECORD"; }; '
    f"say start; sleep $TORTURE_SLEEP; if [ $((SWARM_TASK_ID % {FAILING})) = 0 ] && [ $SWARM_ATTEMPT = 1 ]; "
    "then say failed; exit 1; fi; say done"
)


@dataclass
class Plan:
    """What is to be done, and to whom."""

    gateway: str
    """One of SURROUNDINGS."""
    seed: int
    tasks: int
    kills: int
    """How many times something is killed; fewer when the time is up or everything is done before."""
    seconds: float
    """After so long nothing is killed any more, and the workflow may finish."""
    sleep: float = 0.01
    """How long a task takes, in seconds."""
    say: bool = False
    """Show how it goes."""


@dataclass
class Outcome:
    """What came of it."""

    daemons_killed: int = 0
    others_killed: int = 0
    """Clients or engines."""
    tasks: int = 0
    seconds: float = 0.0
    most_at_once: int = 0
    lost: list[str] = field(default_factory=list)
    run_twice: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Limits and dependencies that were not held, and where the daemon says other than the record."""

    @property
    def kills(self) -> int:
        return self.daemons_killed + self.others_killed

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.run_twice or self.broken)

    def problems(self) -> Iterator[str]:
        """Everything that is wrong, one sentence each."""
        yield from (*self.lost, *self.run_twice, *self.broken)

    def and_then(self, other: "Outcome") -> "Outcome":
        """Both together."""
        return Outcome(
            self.daemons_killed + other.daemons_killed,
            self.others_killed + other.others_killed,
            self.tasks + other.tasks,
            self.seconds + other.seconds,
            max(self.most_at_once, other.most_at_once),
            self.lost + other.lost,
            self.run_twice + other.run_twice,
            self.broken + other.broken,
        )

    def summary(self) -> str:
        """The last line."""
        return f"{self.kills} kills, {self.tasks} tasks, {len(self.lost)} lost, {len(self.run_twice)} run twice"


# -- the workflow ------------------------------------------------------------------------------------------------------


def array_of(task_id: int) -> int:
    """Four arrays of different sizes."""
    return {0: 4, 1: 2, 2: 2}.get(task_id % 20, 1 if task_id % 2 else 3)


def upstreams_of(task_id: int) -> list[int]:
    """Every third task comes after one or two others that were loaded before it."""
    if task_id % 3 or task_id < 20:
        return []
    return sorted({task_id - 11, task_id - 1 - task_id % 13})


def load_requests(tasks: int, max_attempts: int) -> Iterator[swarm_service_pb2.AddTasksRequest]:
    """The loads, one message each."""
    for first in range(1, tasks + 1, LOAD_TASKS):
        request = swarm_service_pb2.AddTasksRequest(swarm_id=SWARM, request_id=f"load-{first}")
        if first == 1:
            for array_id, limit in ARRAY_LIMITS.items():
                request.arrays.add(array_id=array_id, command=COMMAND, max_concurrently_running=limit)
            request.task_resources.append(task_pb2.TaskResources(task_resources_id=1, cores=1))
        for task_id in range(first, min(first + LOAD_TASKS, tasks + 1)):
            request.tasks.add(
                task_id=task_id,
                array_id=array_of(task_id),
                task_resources_id=1,
                upstream_task_ids=upstreams_of(task_id),
                max_attempts=max_attempts,
                priority=task_id % 2,
            )
        yield request


# -- the torture -------------------------------------------------------------------------------------------------------


class Torture:
    """One run."""

    def __init__(self, plan: Plan, home: Path, daemon: RestartedDaemon) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._home = home
        self._daemon = daemon
        self._environment = {"TORTURE_RECORD": str(self.record), "TORTURE_SLEEP": str(plan.sleep)}
        self._beside = SURROUNDINGS[plan.gateway](home, daemon.address, self._environment, plan.sleep)
        self._outcome = Outcome(tasks=plan.tasks)

    @property
    def record(self) -> Path:
        return self._home / "record"

    def run(self) -> Outcome:
        """Kill until it is enough, let it finish, and compare."""
        begun = time.monotonic()
        try:
            self._start_daemon()
            self._ensure_others()
            self._load()
            self._kill_again_and_again(begun + self._plan.seconds)
            self._finish()
            self._outcome.seconds = time.monotonic() - begun
            self._compare()
        finally:
            self._beside.close()
        return self._outcome

    def _start_daemon(self) -> None:
        """Some are killed before they are ready, while they take up what is there."""
        while self._daemon.starts and self._random.random() < EARLY_KILLS:
            self._launch()
            time.sleep(self._random.uniform(SHORTEST_START, LONGEST_START))
            self._daemon.kill()
            self._outcome.daemons_killed += 1
        self._launch()
        self._daemon.until_ready()

    def _launch(self) -> None:
        """The real one or, every other time, the one that makes a snapshot again and again."""
        if self._daemon.starts % 2:
            self._daemon.launch_crashing("--snapshot-after", "20000", "--local-cores", "16")
        else:
            self._daemon.launch_serve("--local-cores", "16")

    def _load(self) -> None:
        """Under kills, too: a request that was not answered is sent again."""
        plan = self._plan
        swarm = swarm_pb2.Swarm(
            swarm_id=SWARM,
            gateway=self._beside.gateway,
            gateway_options=self._beside.gateway_options,
            autopilot=self._beside.autopilot,
            environment=self._environment,
            max_concurrently_running=SWARM_LIMIT,
        )
        create = swarm_service_pb2.CreateSwarmRequest(swarm=swarm, request_id="create")
        with calling(self._daemon.address) as stubs:
            stubs.swarms.CreateSwarm(create, timeout=SECONDS)
        for request in load_requests(plan.tasks, self._beside.max_attempts):
            victim = self._daemon.process
            killing = threading.Timer(self._random.uniform(0.0, LOAD_SECONDS), victim.kill)
            killing.start()
            self._add_tasks(request)
            killing.join()
            if self._daemon.process is victim:
                self._next_daemon()

    def _add_tasks(self, request: swarm_service_pb2.AddTasksRequest) -> None:
        """Until it is answered; every load is sent twice at least."""
        answers = 0
        while answers < 2:
            try:
                with calling(self._daemon.address) as stubs:
                    stubs.swarms.AddTasks(iter([request]), timeout=SECONDS)
                answers += 1
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
                self._next_daemon()

    def _next_daemon(self) -> None:
        """After a kill."""
        self._daemon.process.wait(SECONDS)
        self._outcome.daemons_killed += 1
        self._start_daemon()

    def _kill_again_and_again(self, until: float) -> None:
        while time.monotonic() < until and self._outcome.kills < self._plan.kills and not self._is_finished():
            self._ensure_others()
            time.sleep(self._random.uniform(SHORTEST_LIFE, LONGEST_LIFE))
            victim = self._random.random() if self._beside.is_mortal else 1.0
            if victim < 0.6:
                self._beside.kill(self._random)
                self._outcome.others_killed += 1
            if victim > 0.4:
                self._kill_daemon()
            self._show()

    def _kill_daemon(self) -> None:
        self._daemon.process.kill()
        self._next_daemon()

    def _ensure_others(self) -> None:
        wrong = self._beside.ensure()
        if wrong:
            self._outcome.broken.append(wrong)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        last, since = -1, time.monotonic()
        while not self._is_finished():
            self._ensure_others()
            time.sleep(0.2)
            size = self.record.stat().st_size if self.record.exists() else 0
            if size != last:
                last, since = size, time.monotonic()
            if time.monotonic() - since > STUCK_SECONDS:
                self._outcome.broken.append(f"nothing happens any more: {self._swarm().task_counts}")
                return

    def _is_finished(self) -> bool:
        swarm = self._swarm()
        return swarm.outcome != swarm_pb2.SWARM_OUTCOME_UNFINISHED and swarm.task_counts.total == self._plan.tasks

    def _swarm(self) -> swarm_pb2.Swarm:
        with calling(self._daemon.address) as stubs:
            return stubs.swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(swarm_id=SWARM), timeout=SECONDS).swarm

    def _tasks(self) -> dict[int, task_pb2.Task]:
        found: dict[int, task_pb2.Task] = {}
        request = swarm_service_pb2.ListTasksRequest(swarm_id=SWARM, page_size=10_000)
        with calling(self._daemon.address) as stubs:
            while True:
                page = stubs.swarms.ListTasks(request, timeout=SECONDS)
                found |= {task.task_id: task for task in page.tasks}
                if not page.next_page_token:
                    return found
                request.page_token = page.next_page_token

    def _compare(self) -> None:
        compare(read_record(self.record), self._tasks(), self._outcome)

    def _show(self) -> None:
        if self._plan.say and self._outcome.kills % 10 == 0:
            done = self._swarm().task_counts.done
            kills = self._outcome.kills
            print(f"{self._plan.gateway}: {kills} kills, {done} of {self._plan.tasks} tasks done", flush=True)


# -- the comparison ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the record."""

    task_id: int
    attempt: int
    event: str
    """start, done, failed or lost: the last is an attempt whose client was killed."""
    at: int


def read_record(path: Path) -> list[Entry]:
    """In the order of the times."""
    lines = path.read_text().splitlines()
    fields = [line.split() for line in lines]
    entries = [Entry(int(task_id), int(attempt), event, int(at)) for task_id, attempt, event, at in fields]
    return sorted(entries, key=lambda entry: entry.at)


def compare(entries: list[Entry], tasks: dict[int, task_pb2.Task], outcome: Outcome) -> None:
    """Note everything in which the record is not what it must be, or not what the daemon says."""
    _compare_ends(entries, tasks, outcome)
    _check_limits(entries, outcome)
    _check_dependencies(entries, outcome)


def _compare_ends(entries: list[Entry], tasks: dict[int, task_pb2.Task], outcome: Outcome) -> None:
    times = Counter((entry.task_id, entry.attempt, entry.event) for entry in entries)
    for (task_id, attempt, event), number in sorted(times.items()):
        if number > 1:
            outcome.run_twice.append(f"task {task_id}: attempt {attempt} has {event} {number} times")
    done: dict[int, list[int]] = defaultdict(list)
    failed: Counter[int] = Counter()
    for entry in entries:
        if entry.event == "done":
            done[entry.task_id].append(entry.attempt)
        elif entry.event in ("failed", "lost"):
            failed[entry.task_id] += 1
    for task_id in range(1, outcome.tasks + 1):
        attempts, task = done[task_id], tasks.get(task_id)
        if not attempts or task is None or task.status != task_pb2.TASK_STATUS_DONE:
            said = "nothing" if task is None else f"{task_pb2.TaskStatus.Name(task.status)} ({task.reason})"
            outcome.lost.append(f"task {task_id}: done in the attempts {attempts}, and the daemon says {said}")
        elif len(attempts) > 1:
            outcome.run_twice.append(f"task {task_id}: done in the attempts {attempts}")
        elif (task.attempt, task.failed_attempts) != (attempts[0], failed[task_id]):
            said = f"attempt {task.attempt} after {task.failed_attempts} failures"
            outcome.broken.append(f"task {task_id}: attempt {attempts[0]} after {failed[task_id]}; daemon: {said}")


def _check_limits(entries: list[Entry], outcome: Outcome) -> None:
    running: Counter[int] = Counter()
    for entry in entries:
        array_id = array_of(entry.task_id)
        running[array_id] += 1 if entry.event == "start" else -1
        outcome.most_at_once = max(outcome.most_at_once, running.total())
        if entry.event != "start":
            continue
        where = f"when task {entry.task_id} starts"
        if running[array_id] > ARRAY_LIMITS[array_id]:
            outcome.broken.append(f"array {array_id}: {running[array_id]} run {where}")
        if running.total() > SWARM_LIMIT:
            outcome.broken.append(f"the swarm: {running.total()} run {where}")


def _check_dependencies(entries: list[Entry], outcome: Outcome) -> None:
    done: set[int] = set()
    for entry in entries:
        if entry.event == "done":
            done.add(entry.task_id)
        missing = set(upstreams_of(entry.task_id)) - done
        if entry.event == "start" and missing:
            outcome.broken.append(f"task {entry.task_id} starts before {sorted(missing)} are done")


def tortured(plan: Plan) -> Outcome:
    """Carry a plan out, in a home of its own."""
    with short_home() as home, restarted(home) as daemon:
        return Torture(plan, home, daemon).run()
