"""Swarm: a workflow as plain Python, to be submitted to a daemon. Talks to nobody.

>>> study = Swarm("study", max_concurrently_running=100)
>>> prepare = study.array("prepare", command="python3 prepare.py {name}", tasks=["delta", "harbor"])
>>> simulate = study.array("simulate", command="python3 simulate.py {name}", tasks=1000, after=prepare)
>>> simulate >> study.task("report", command="python3 report.py")
<1 task of 'report'>
"""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from swarmd.client.columns import TaskBlock
from swarmd.client.encoding import ids_of
from swarmd.client.ordering import TaskArray, Tasks, Upstreams, check_swarm, flat
from swarmd.core.errors import InvalidInputError
from swarmd.core.ids import Int64s
from swarmd.core.model import DEFAULT_MAX_ATTEMPTS, MAX_LABEL_BYTES, Array, TaskResources
from swarmd.core.policy import SchedulingPolicy

BARRIER_COMMAND = "true"

Place = tuple[str, int]
"""A swarm in a daemon, however it is reached: its id, and when it was made (another one may have the id later)."""
Amount = str | int | float | timedelta | SupportsIndex
Resources = Mapping[str, Amount | Sequence[str]] | TaskResources
"""`{"cores": 2, "memory": "4G", "runtime": "1h30m", "queue": "short", "fallback_queues": ["long"]}`; what the engine
alone understands, too."""


@dataclass(frozen=True, slots=True)
class PlanLoad:
    """What is sent of a Swarm into one swarm of a daemon: what was in it when the load began."""

    arrays: list[Array]
    task_resources: list[TaskResources]
    blocks: list[TaskBlock]


class Swarm:
    """A workflow that is being put together: its settings, arrays, tasks and who waits for whom.

    Arrays are known by their names here. Ids are given out from `first_id` on, unless you bring your own. It can be
    added to after it was submitted: `load` then sends what that swarm does not have. Submitted once more, all of it
    goes into the new swarm.

        study = Swarm("study", max_concurrently_running=100, environment={"SEED": "1"})
        study.array("simulate", command="python3 simulate.py {name}", tasks=1000, resources={"memory": "4G"})
        live = await client.submit(study)
    """

    def __init__(
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
        first_id: int = 1,
    ) -> None:
        """`SwarmClient.create_swarm` says what the settings mean; `first_id`: where task and array ids begin.

        Raises InvalidInputError for a scheduling policy that there is not.
        """
        self.swarm_id = swarm_id
        self.display_name = display_name
        self.max_concurrently_running = max_concurrently_running
        self.gateway = gateway
        self.autopilot = autopilot
        self.paused = paused
        self.fail_fast = fail_fast
        self.working_directory = working_directory
        self.environment = dict(environment or {})
        self.gateway_options = dict(gateway_options or {})
        self.scheduling_policy = _policy(scheduling_policy)
        self._next_task_id = first_id
        self._next_array_id = first_id
        self._resources: dict[tuple[object, ...], TaskResources] = {}
        self._first_resources_id = first_id
        self._arrays: dict[str, TaskArray] = {}
        self._loads: dict[Place, tuple[int, int]] = {}

    def __repr__(self) -> str:
        count = sum(len(array) for array in self._arrays.values())
        return f"<swarm {self.swarm_id!r}: {count:,} tasks in {len(self._arrays):,} arrays>"

    def __getitem__(self, name: str) -> TaskArray:
        """The array of that name."""
        return self._arrays[name]

    # -- building --------------------------------------------------------------------------------------------------

    def array(
        self,
        name: str,
        *,
        command: str = "",
        tasks: SupportsIndex | Sequence[str] | Mapping[str, str] = 1,
        task_ids: ArrayLike | None = None,
        resources: Resources | None = None,
        max_concurrently_running: int | None = None,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        priority: int = 0,
        resource_scales: Mapping[str, float] | None = None,
        after: Upstreams | None = None,
    ) -> TaskArray:
        """Tasks of one kind.

        `command` is a template: `{name}`, `{task_id}`, `{array_name}`, `{attempt}` and so on are filled in for each
        task. `tasks`: how many (they are named 0, 1, 2, ...), their names, or a mapping of names to commands of their
        own. `task_ids`: their ids, a numpy array for example. `max_concurrently_running`: how many of them may be
        active at once. `resource_scales`: `{"memory": 0.5}` gives half as much again when an attempt ran out of it.
        `after`: what all of them wait for; an array without tasks passes on what it waits for itself. Raises
        InvalidInputError, and then nothing was added.

            study.array("simulate", command="python3 simulate.py {name}", tasks=1000, max_concurrently_running=50,
                        resources={"cores": 2, "memory": "4G", "runtime": "1h"}, after=prepare)
        """
        if name in self._arrays:
            message = f"name: there is an array {name!r} already; names are unique in a Swarm"
            raise InvalidInputError(message, reason="ARRAY_EXISTS", field="name")
        names, commands = _names_and_commands(tasks)
        wanted = _task_resources(resources)
        upstreams = [] if after is None else list(flat((after,)))
        check_swarm(upstreams, self)
        ids = self._ids(len(names), task_ids)
        block = TaskBlock(
            array_id=self._next_array_id,
            task_resources_id=self._shared(wanted),
            task_ids=ids,
            names=names,
            commands=commands,
            max_attempts=max_attempts,
            priority=priority,
            resource_scales=dict(resource_scales or {}),
        )
        self._next_array_id += 1
        made = TaskArray(self, Array(block.array_id, name, max_concurrently_running, command), block)
        self._arrays[name] = made
        return made.after(upstreams)

    def task(
        self,
        name: str,
        *,
        command: str,
        task_id: int | None = None,
        resources: Resources | None = None,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        priority: int = 0,
        resource_scales: Mapping[str, float] | None = None,
        after: Upstreams | None = None,
    ) -> TaskArray:
        """One task, in an array of its own; see `array`.

        report = study.task("report", command="python3 report.py", after=simulate)
        """
        return self.array(
            name,
            command=command,
            tasks=[name],
            task_ids=None if task_id is None else [task_id],
            resources=resources,
            max_attempts=max_attempts,
            priority=priority,
            resource_scales=resource_scales,
            after=after,
        )

    def barrier(self, upstreams: Tasks, downstream: TaskArray) -> Int64s:
        """A task that does nothing, between two sides that have too many edges. Gives its id."""
        like = self._of_id(downstream.block.task_resources_id)
        resources = TaskResources(0, like.cluster, like.queue, extra=like.extra)
        name = self._free_name(f"{_short(upstreams.array.name)} -> {_short(downstream.name)} barrier")
        between = self.array(name, command=BARRIER_COMMAND, tasks=[name], resources=resources)
        between.block.priority = downstream.block.priority
        between.block.upstreams.append(upstreams.task_ids)
        return between.task_ids

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._arrays:
            name, number = f"{wanted} {number}", number + 1
        return name

    def _ids(self, count: int, given: ArrayLike | None) -> Int64s:
        if given is None:
            ids = np.arange(self._next_task_id, self._next_task_id + count, dtype=np.int64)
        else:
            ids = ids_of(given)
            if len(ids) != count:
                message = f"task_ids: {len(ids)} ids for {count} tasks; give one for each"
                raise InvalidInputError(message, reason="INVALID_IDS", field="task_ids")
        if len(ids):
            self._next_task_id = max(self._next_task_id, int(ids.max()) + 1)
        return ids

    def _shared(self, wanted: TaskResources) -> int:
        """The id of resources like these."""
        key = (
            wanted.cluster,
            wanted.queue,
            wanted.cores,
            wanted.memory_mib,
            wanted.runtime_seconds,
            tuple(sorted(wanted.extra.items())),
            wanted.fallback_queues,
        )
        if key not in self._resources:
            number = self._first_resources_id + len(self._resources)
            self._resources[key] = replace(wanted, task_resources_id=number)
        return self._resources[key].task_resources_id

    def _of_id(self, task_resources_id: int) -> TaskResources:
        return next(each for each in self._resources.values() if each.task_resources_id == task_resources_id)

    # -- what is to be loaded (ColumnLoad) -------------------------------------------------------------------------

    @property
    def arrays(self) -> list[Array]:
        """All its arrays."""
        return [array.array_value for array in self._arrays.values()]

    @property
    def task_resources(self) -> list[TaskResources]:
        """All its resources."""
        return list(self._resources.values())

    @property
    def blocks(self) -> list[TaskBlock]:
        """All its tasks, array by array."""
        return [array.block for array in self._arrays.values()]

    @contextmanager
    def loading(self, place: Place) -> Iterator[PlanLoad]:
        """What that swarm does not have yet, to be sent within the block; it has that when the block ends well.

        Meanwhile nothing about it can be changed, and what is added belongs to the next load.
        """
        arrays, resources = self._loads.get(place, (0, 0))
        new, new_resources = list(self._arrays.values())[arrays:], self.task_resources[resources:]
        _count_loads(new, 1)
        try:
            yield PlanLoad([each.array_value for each in new], new_resources, [each.block for each in new])
        except BaseException:
            _count_loads(new, -1)
            raise
        self._loads[place] = (arrays + len(new), resources + len(new_resources))


def _count_loads(arrays: Iterable[TaskArray], more: int) -> None:
    for array in arrays:
        array.loads += more


def _short(name: str) -> str:
    """As much of a name as two of them can have in the name of a barrier."""
    room = (MAX_LABEL_BYTES - len(" ->  barrier 1234567890")) // 2
    return name.encode(errors="replace")[:room].decode(errors="ignore")


class Numbers(Sequence[str]):
    """0, 1, 2, ... as names, made when they are needed: a million tasks are no million strings."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        return [*map(str, self._numbers[place])] if isinstance(place, slice) else str(self._numbers[place])

    def __len__(self) -> int:
        return len(self._numbers)


def _names_and_commands(
    tasks: SupportsIndex | Sequence[str] | Mapping[str, str],
) -> tuple[Sequence[str], Sequence[str] | None]:
    if isinstance(tasks, str):
        message = f"tasks: {tasks!r} is one text; give a list of names: [{tasks!r}]"
        raise InvalidInputError(message, reason="INVALID_TASKS", field="tasks")
    if isinstance(tasks, Mapping):
        return list(tasks), list(tasks.values())
    count = _whole(tasks)
    if count is None and isinstance(tasks, Iterable):
        return [str(name) for name in tasks], None
    if count is None or count < 0:
        message = f"tasks: {tasks!r} is no number of tasks; give how many, their names, or names with commands"
        raise InvalidInputError(message, reason="INVALID_TASKS", field="tasks")
    return Numbers(range(count)), None


def _whole(value: object) -> int | None:
    """A whole number of Python or numpy; None for what is none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _policy(given: SchedulingPolicy | str) -> SchedulingPolicy:
    try:
        return SchedulingPolicy(given)
    except ValueError:
        message = f"scheduling_policy: {given!r} is none; use one of {', '.join(SchedulingPolicy)}"
        raise InvalidInputError(message, field="scheduling_policy") from None


def _task_resources(given: Resources | None) -> TaskResources:
    if given is None:
        return TaskResources(0)
    if isinstance(given, TaskResources):
        return given
    from swarmd.workflow.units import memory_mib, runtime_seconds  # the same words as in a workflow file

    rest = {name: _of_numpy(value) for name, value in given.items()}
    runtime = rest.pop("runtime", 0)
    try:
        return TaskResources(
            0,
            cluster=str(rest.pop("cluster", "")),
            queue=str(rest.pop("queue", "")),
            cores=_cores(rest.pop("cores", 1)),
            memory_mib=memory_mib(rest.pop("memory", 0)),
            runtime_seconds=runtime_seconds(runtime.total_seconds() if isinstance(runtime, timedelta) else runtime),
            fallback_queues=_queue_names(rest.pop("fallback_queues", ())),
            extra={name: str(value) for name, value in rest.items()},
        )
    except ValueError as error:
        message = f"resources: {error} (they are {dict(given)})"
        raise InvalidInputError(message, reason="INVALID_RESOURCES", field="resources") from None


def _of_numpy(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def _queue_names(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{value!r} is no list of queues")  # noqa: TRY004
    return tuple(map(str, value))


def _cores(value: object) -> int:
    cores = _whole(value)
    if cores is None or cores < 1:
        raise ValueError(f"{value!r} is no number of cores")
    return cores
