"""Which tasks and arrays are meant: what was not given is no condition, and an empty list selects nothing.

So `cancel(mine, statuses=["Q"])` never becomes "all that are queued" because `mine` happens to be empty.
"""

from collections.abc import Iterable, Sequence

from swarmd._pb.swarm.v1 import swarm_pb2, task_pb2
from swarmd.client.encoding import Ids, ids_of, status_of, task_status_value
from swarmd.client.errors import NotFoundError
from swarmd.client.ordering import TaskArray, Tasks
from swarmd.client.protocol import ProtocolClient
from swarmd.core.errors import InvalidInputError
from swarmd.core.status import TaskStatus

Arrays = int | str | TaskArray | Sequence[int | str | TaskArray]
"""Arrays by their ids, their names, or as a Swarm gave them; one, or several."""
Statuses = TaskStatus | str | Iterable[TaskStatus | str]
"""Statuses, or their one-letter codes; one, or several."""


async def selector_of(
    client: ProtocolClient,
    swarm_id: str,
    task_ids: Ids | None,
    arrays: Arrays | None,
    statuses: Statuses | None,
    *,
    everything: bool = False,
) -> task_pb2.TaskSelector | None:
    """What is meant as calls take it; None: something was given that selects nothing."""
    ids = None if task_ids is None else ids_of(task_ids).tolist()
    values = None if statuses is None else status_values(statuses)
    array_ids = None if arrays is None else await array_ids_of(client, swarm_id, arrays)
    if any(given is not None and not given for given in (ids, values, array_ids)):
        return None
    return task_pb2.TaskSelector(task_ids=ids, array_ids=array_ids, statuses=values, all=everything)


def status_values(statuses: Statuses) -> list[task_pb2.TaskStatus]:
    """Statuses as messages carry them. Raises InvalidInputError for what is none."""
    several = [statuses] if isinstance(statuses, str) else statuses
    return [task_status_value(status_of(each, "statuses")) for each in several]


async def array_ids_of(client: ProtocolClient, swarm_id: str, arrays: Arrays) -> list[int]:
    """The ids of arrays; the daemon is asked for those that are named. Raises NotFoundError."""
    several = arrays if isinstance(arrays, Iterable) and not isinstance(arrays, str | Tasks) else [arrays]
    wanted = [each if isinstance(each, str) else _id_of(each) for each in several]
    names = {each for each in wanted if isinstance(each, str)}
    known = _by_name(await client.get_swarm(swarm_id, full=True)) if names else {}
    if missing := names - known.keys():
        message = f"arrays: no array is called {min(missing)!r}; status(arrays=True) has their names"
        raise NotFoundError(message, code="NOT_FOUND", reason="UNKNOWN_ARRAY", field="arrays")
    return [number for each in wanted for number in (known[each] if isinstance(each, str) else [each])]


def _by_name(swarm: swarm_pb2.Swarm) -> dict[str, list[int]]:
    known: dict[str, list[int]] = {}
    for array in swarm.arrays:
        known.setdefault(array.name, []).append(array.array_id)
    return known


def _id_of(array: object) -> int:
    if isinstance(array, TaskArray):
        return array.array_id
    try:
        return int(ids_of(array, "arrays")[0])  # type: ignore[arg-type]
    except (InvalidInputError, IndexError):
        message = f"arrays: {array!r} is no array; give its id, its name, or what Swarm.array gave"
        raise InvalidInputError(message, reason="INVALID_ARRAYS", field="arrays") from None
