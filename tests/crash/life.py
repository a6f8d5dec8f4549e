"""The life of two swarms, led by a client that notes what was acknowledged and repeats what was not.

The daemon may be killed at any moment of it. The client looks what is there then: all that was acknowledged, and what
was not wholly or not at all. It sends the same requests again, with the same request ids, and goes on to the end.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from swarmd._pb.swarm.v1 import array_pb2, batch_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from tests.crash.restarting import RestartedDaemon, Stubs

T = TypeVar("T")

SECONDS = 30.0
LIFE, GONE = "life", "gone"

REGISTERED = task_pb2.TASK_STATUS_REGISTERED
QUEUED = task_pb2.TASK_STATUS_QUEUED
RUNNING = task_pb2.TASK_STATUS_RUNNING
DONE = task_pb2.TASK_STATUS_DONE
CANCELLED = task_pb2.TASK_STATUS_CANCELLED

TOLD = range(1, 17)
"""Tasks that run until the client says how they went; the engine says it of all others."""
BY_THEMSELVES = range(17, 33)
DOWNSTREAM = range(33, 49)
"""Each comes after two of the others."""
GONE_TASKS = range(1, 7)
CANCELLED_WAITING = (47, 48)

Tasks = dict[int, tuple[int, int]]
"""Status and attempt of tasks."""
News = tuple[list[int], task_pb2.TaskStatus, list[int]]
"""Tasks, what they have come to, and the attempts of which this is true."""


def command_of(task_id: int) -> str:
    """What the engine makes of a task; see RecordingEngine."""
    if task_id in TOLD or (task_id in DOWNSTREAM and task_id % 8 == 1):
        return "told"
    return {1: "flaky", 2: "shy"}.get(task_id % 4, "done")


@dataclass
class Acknowledged:
    """What the daemon has said is so."""

    swarms: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    tasks: dict[str, set[int]] = field(default_factory=lambda: {LIFE: set(), GONE: set()})
    news: Tasks = field(default_factory=dict)
    """What tasks have come to, at least."""
    settings: swarm_pb2.Swarm = field(default_factory=swarm_pb2.Swarm)
    loads: list[tuple[str, str, list[int], swarm_service_pb2.AddTasksResponse]] = field(default_factory=list)
    """Swarm, request id and tasks of each load, and its answer."""
    ticks: list[tuple[scheduler_pb.TickRequest, scheduler_pb.TickResponse]] = field(default_factory=list)
    stopped: set[tuple[int, int]] = field(default_factory=set)
    """Attempts that the engine had when their tasks were cancelled."""


class Life:
    """From the first swarm to the last task."""

    def __init__(self, daemon: RestartedDaemon, *arguments: str, again: Sequence[str] = ()) -> None:
        """`daemon` runs; `arguments` are for those after it. `again`: where each of the next ones dies, too."""
        self.daemon = daemon
        self.known = Acknowledged()
        self.kills = 0
        self._arguments = arguments
        self._again = list(again)
        self._stubs = Stubs(daemon.address)
        self._ticks = 0

    def close(self) -> None:
        self._stubs.channel.close()

    def lead(self) -> None:
        """All of it."""
        self.create(LIFE, "recording")
        self.create(GONE, "pull")
        self.load(LIFE, "load-1", [*TOLD, *BY_THEMSELVES])
        self.load(GONE, "load-2", list(GONE_TASKS))
        self.tick(LIFE, max_batches=3)
        self.tick(GONE)
        self.tell_some(RUNNING, 8)
        self.configure(swarm_pb2.Swarm(display_name="renamed", max_concurrently_running=9, paused=True))
        self.load(LIFE, "load-3", list(DOWNSTREAM))
        self.cancel()
        self.configure(swarm_pb2.Swarm(display_name="again", max_concurrently_running=20))
        self.tick(LIFE, max_batches=2)
        self.tell_some(DONE, 4)
        self.reset()
        self.delete(GONE)
        self.finish()

    # -- steps -----------------------------------------------------------------------------------------------------

    def create(self, swarm_id: str, gateway: str) -> None:
        request = swarm_service_pb2.CreateSwarmRequest(
            swarm=swarm_pb2.Swarm(swarm_id=swarm_id, gateway=gateway), request_id=f"create-{swarm_id}"
        )
        answer = self._until_acknowledged(lambda stubs: stubs.swarms.CreateSwarm(request, timeout=SECONDS))
        assert answer.swarm.swarm_id == swarm_id
        self.known.swarms.add(swarm_id)

    def load(self, swarm_id: str, request_id: str, task_ids: list[int]) -> None:
        """One load of two messages, which the journal has in several parts."""

        def whole() -> None:
            there = set(self.tasks(swarm_id)) & set(task_ids) - self.known.tasks[swarm_id]
            assert len(there) in (0, len(task_ids)), f"half a load is there: {sorted(there)}"
            arrays = {array.array_id for array in self.swarm(swarm_id).arrays}
            assert (request_array(request_id) in arrays) == bool(there)

        def call(stubs: Stubs) -> swarm_service_pb2.AddTasksResponse:
            return stubs.swarms.AddTasks(load_requests(swarm_id, request_id, task_ids), timeout=SECONDS)

        answer = self._until_acknowledged(call, whole)
        assert answer.task_count == len(task_ids)
        self.known.loads.append((swarm_id, request_id, task_ids, answer))
        self.known.tasks[swarm_id] |= set(task_ids)

    def tick(self, swarm_id: str, max_batches: int = 0) -> None:
        self._ticks += 1
        request = scheduler_pb.TickRequest(
            swarm_id=swarm_id,
            request_id=f"tick-{self._ticks}",
            max_batches=max_batches,
            view=batch_pb2.BATCH_VIEW_FULL,
        )
        answer = self._until_acknowledged(lambda stubs: stubs.scheduler.Tick(request, timeout=SECONDS))
        self.known.ticks.append((request, answer))
        for batch in answer.batches if swarm_id == LIFE else ():
            for task_id, attempt in zip(batch.task_ids, batch.attempts, strict=True):
                self._note(task_id, QUEUED, attempt)

    def tell_some(self, status: task_pb2.TaskStatus, most: int) -> None:
        """Report tasks that the client is asked about, two by two, on one stream and without waiting."""
        before = QUEUED if status == RUNNING else RUNNING
        tasks = self.tasks(LIFE)
        ready = [task_id for task_id, (now, _) in tasks.items() if now == before and command_of(task_id) == "told"]
        pairs = [ready[place : place + 2] for place in range(0, min(most, len(ready)), 2)]
        self._tell({number: (pair, status, [tasks[each][1] for each in pair]) for number, pair in enumerate(pairs, 1)})

    def _tell(self, waiting: dict[int, News]) -> None:
        def call(stubs: Stubs) -> None:
            for answer in stubs.scheduler.ApplyUpdate(_updates(waiting), timeout=SECONDS):
                assert not answer.error.message
                task_ids, status, attempts = waiting.pop(answer.sequence)
                for task_id, attempt in zip(task_ids, attempts, strict=True):
                    self._note(task_id, status, attempt)

        def whole() -> None:
            tasks = self.tasks(LIFE)
            for task_ids, _, _ in waiting.values():
                assert len({tasks[task_id] for task_id in task_ids}) == 1, f"half an update is there: {task_ids}"

        while waiting:
            self._until_acknowledged(call, whole)

    def configure(self, wanted: swarm_pb2.Swarm) -> None:
        fields = ["display_name", "max_concurrently_running", "paused"]
        request = swarm_service_pb2.UpdateSwarmRequest(swarm=wanted)
        request.swarm.swarm_id = LIFE
        request.update_mask.paths.extend(fields)
        before = self.swarm(LIFE)

        def whole() -> None:
            now = [getattr(self.swarm(LIFE), name) for name in fields]
            assert now in ([getattr(side, name) for name in fields] for side in (before, wanted)), now

        self._until_acknowledged(lambda stubs: stubs.swarms.UpdateSwarm(request, timeout=SECONDS), whole)
        self.known.settings = wanted

    def cancel(self) -> None:
        """Two that run, and two that wait for others."""
        before = self.tasks(LIFE)
        running = [task_id for task_id, (status, _) in before.items() if status == RUNNING][:2]
        chosen = [*running, *CANCELLED_WAITING]
        request = swarm_service_pb2.CancelTasksRequest(swarm_id=LIFE, reason="by the test")
        request.selector.task_ids.extend(chosen)

        def whole() -> None:
            now = self.tasks(LIFE)
            cancelled = [task_id for task_id in chosen if now[task_id][0] == CANCELLED]
            assert cancelled in ([], chosen), f"half a cancellation is there: {cancelled}"

        self._until_acknowledged(lambda stubs: stubs.swarms.CancelTasks(request, timeout=SECONDS), whole)
        for task_id in chosen:
            self.known.news[task_id] = (CANCELLED, before[task_id][1])
        self.known.stopped |= {(task_id, before[task_id][1]) for task_id in running}

    def reset(self) -> None:
        request = swarm_service_pb2.ResetTasksRequest(swarm_id=LIFE)
        request.selector.statuses.append(CANCELLED)
        chosen = [task_id for task_id, (status, _) in self.tasks(LIFE).items() if status == CANCELLED]

        def whole() -> None:
            now = self.tasks(LIFE)
            reset = [task_id for task_id in chosen if now[task_id][0] != CANCELLED]
            assert reset in ([], chosen), f"half a reset is there: {reset}"

        for task_id in chosen:
            del self.known.news[task_id]
        self._until_acknowledged(lambda stubs: stubs.swarms.ResetTasks(request, timeout=SECONDS), whole)

    def delete(self, swarm_id: str) -> None:
        request = swarm_service_pb2.DeleteSwarmRequest(swarm_id=swarm_id, force=True)
        self.known.swarms.discard(swarm_id)

        def whole() -> None:
            if swarm_id in self.swarm_ids():
                statuses = {status for status, _ in self.tasks(swarm_id).values()}
                assert len(statuses) == 1, "a swarm that is to go is there with all its tasks, or not at all"
                assert set(self.tasks(swarm_id)) == self.known.tasks[swarm_id]

        def call(stubs: Stubs) -> None:
            try:
                stubs.swarms.DeleteSwarm(request, timeout=SECONDS)
            except grpc.RpcError as error:
                # It was deleted before the kill, and nobody could be told.
                if error.code() is not grpc.StatusCode.NOT_FOUND or not self.kills:
                    raise

        self._until_acknowledged(call, whole)
        self.known.deleted.add(swarm_id)

    def finish(self) -> None:
        """Until every task is done."""
        end = time.monotonic() + SECONDS
        while self.swarm(LIFE).task_counts.done < len(self.known.tasks[LIFE]):
            assert time.monotonic() < end, f"it is never finished: {self.swarm(LIFE).task_counts}"
            before = self.swarm(LIFE).revision
            self.tick(LIFE)
            self.tell_some(RUNNING, 100)
            self.tell_some(DONE, 100)
            if self.swarm(LIFE).revision == before:
                time.sleep(0.05)  # a batch in doubt is asked after

    # -- looking ---------------------------------------------------------------------------------------------------

    def swarm_ids(self) -> set[str]:
        request = swarm_service_pb2.ListSwarmsRequest()
        answer = self._until_acknowledged(lambda stubs: stubs.swarms.ListSwarms(request, timeout=SECONDS))
        return {swarm.swarm_id for swarm in answer.swarms}

    def swarm(self, swarm_id: str) -> swarm_pb2.Swarm:
        request = swarm_service_pb2.GetSwarmRequest(swarm_id=swarm_id, view=swarm_pb2.SWARM_VIEW_FULL)
        return self._until_acknowledged(lambda stubs: stubs.swarms.GetSwarm(request, timeout=SECONDS)).swarm

    def tasks(self, swarm_id: str) -> Tasks:
        request = swarm_service_pb2.ListTasksRequest(swarm_id=swarm_id, page_size=1000)
        answer = self._until_acknowledged(lambda stubs: stubs.swarms.ListTasks(request, timeout=SECONDS))
        return {task.task_id: (task.status, task.attempt) for task in answer.tasks}

    def check_acknowledged(self) -> None:
        """Nothing that was acknowledged is missing."""
        swarm_ids = self.swarm_ids()
        assert swarm_ids >= self.known.swarms
        assert not swarm_ids & self.known.deleted
        for swarm_id in self.known.swarms:
            assert set(self.tasks(swarm_id)) >= self.known.tasks[swarm_id]
        if LIFE in self.known.swarms:
            now = self.tasks(LIFE)
            gone = [each for each, news in self.known.news.items() if not _is_as_far(now[each], news)]
            assert not gone, f"acknowledged news is gone: {[(each, self.known.news[each], now[each]) for each in gone]}"

    # -- being acknowledged ----------------------------------------------------------------------------------------

    def _note(self, task_id: int, status: int, attempt: int) -> None:
        known = self.known.news.get(task_id)
        if known is None or _is_as_far((status, attempt), known):
            self.known.news[task_id] = (status, attempt)

    def _until_acknowledged(self, call: Callable[[Stubs], T], whole: Callable[[], None] = lambda: None) -> T:
        """Repeat the call until it is answered; when the daemon was killed, look what is there before."""
        while True:
            try:
                return call(self._stubs)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
                self._restart()
            self.check_acknowledged()
            whole()

    def _restart(self) -> None:
        self._stubs.channel.close()
        ready = False
        while not ready:
            assert self.daemon.process.wait(SECONDS) == -signal.SIGKILL, self.daemon.log[-3000:]
            self.kills += 1
            again = ["--crash-at", self._again.pop(0)] if self._again else []
            self.daemon.launch_crashing(*self._arguments, *again)
            ready = self.daemon.gets_ready()
        self._stubs = Stubs(self.daemon.address)


def request_array(request_id: str) -> int:
    """The array that a load brings."""
    return int(request_id.rpartition("-")[2])


def load_requests(
    swarm_id: str, request_id: str, task_ids: Sequence[int]
) -> Iterator[swarm_service_pb2.AddTasksRequest]:
    """The messages of a load."""
    array_id = request_array(request_id)
    tasks = [
        task_pb2.Task(
            task_id=task_id,
            array_id=array_id,
            task_resources_id=array_id,
            command=command_of(task_id),
            max_attempts=3,
            upstream_task_ids=[task_id - 32, task_id - 16] if task_id in DOWNSTREAM else [],
        )
        for task_id in task_ids
    ]
    half = len(tasks) // 2
    yield swarm_service_pb2.AddTasksRequest(
        swarm_id=swarm_id,
        request_id=request_id,
        arrays=[array_pb2.Array(array_id=array_id)],
        task_resources=[task_pb2.TaskResources(task_resources_id=array_id)],
        tasks=tasks[:half],
    )
    yield swarm_service_pb2.AddTasksRequest(tasks=tasks[half:])


def _updates(waiting: dict[int, News]) -> Iterator[scheduler_pb.ApplyUpdateRequest]:
    for sequence, (task_ids, status, attempts) in list(waiting.items()):
        group = state_pb2.TaskStatusGroup(status=status, task_ids=task_ids, attempts=attempts)
        yield scheduler_pb.ApplyUpdateRequest(
            swarm_id=LIFE, sequence=sequence, update=state_pb2.StateUpdate(task_statuses=[group])
        )


def _is_as_far(now: tuple[int, int], before: tuple[int, int]) -> bool:
    """Whether a task has come at least so far; a later attempt is further than any earlier one."""
    if now[1] != before[1]:
        return now[1] > before[1]
    if before[0] == QUEUED and now[0] == REGISTERED:
        return True  # the attempt failed, or the engine gave it back
    return now[0] >= before[0]
