"""How commands talk to the daemon: one call and done, and what people write instead of ids."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from swarmd.cli.errors import NotThereError, UsageError
from swarmd.cli.statuses import parse_task_status
from swarmd.cli.text import some_of
from swarmd.client.errors import InvalidArgumentError, NotFoundError
from swarmd.client.finding import ConnectionSettings

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import swarm_pb2, task_pb2
    from swarmd.client.protocol import ProtocolClient

T = TypeVar("T")


def ask(daemon: ConnectionSettings, work: "Callable[[ProtocolClient], Awaitable[T]]") -> T:
    """Connect, do the work, disconnect."""
    import asyncio

    from swarmd.client.protocol import ProtocolClient

    async def connected() -> T:
        async with ProtocolClient(daemon) as client:
            return await work(client)

    return asyncio.run(connected())


def swarm_and_task(words: Sequence[str]) -> tuple[str, str]:
    """What `[SWARM] TASK` says; raises UsageError unless there are one or two words."""
    if len(words) == 1:
        return "", words[0]
    if len(words) == 2:
        return words[0], words[1]
    raise UsageError("say which task: [SWARM] TASK")


async def find_swarm(client: "ProtocolClient", swarm: str) -> str:
    """The id of a swarm that is given by its id or its name; empty, the only one there is, stays empty."""
    if not swarm:
        return ""
    try:
        return (await client.get_swarm(swarm)).swarm_id
    except (NotFoundError, InvalidArgumentError):  # a name may have what no id has
        found = [each.swarm_id for each in await client.list_swarms() if each.display_name == swarm]
        if not found:
            raise NotThereError(f"no swarm has the id or the name {swarm!r}; `swarmd status` lists them") from None
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} swarms are called {swarm!r}; give the id of one: {some_of(found)}"
            ) from None
        return found[0]


async def find_task(client: "ProtocolClient", swarm_id: str, task: str) -> int:
    """The id of a task that is given by its id or its name."""
    if task.isascii() and task.isdigit():
        return int(task)
    found = [each.task_id async for each in client.list_tasks(swarm_id) if each.name == task]
    if not found:
        raise NotThereError(f"no task is called {task!r}; `swarmd tasks` lists them")
    if len(found) > 1:
        raise UsageError(f"{len(found)} tasks are called {task!r}; give the id of one: {some_of(found)}")
    return found[0]


async def find_arrays(client: "ProtocolClient", swarm_id: str, arrays: Sequence[str]) -> list[int]:
    """The ids of arrays that are given by their ids or names."""
    if all(array.isascii() and array.isdigit() for array in arrays):
        return [int(array) for array in arrays]
    swarm = await client.get_swarm(swarm_id, full=True)
    return [array_id for array in arrays for array_id in _array_ids(swarm, array)]


def _array_ids(swarm: "swarm_pb2.Swarm", wanted: str) -> list[int]:
    found = [array.array_id for array in swarm.arrays if array.name == wanted or str(array.array_id) == wanted]
    if not found:
        raise NotThereError(f"no array is called {wanted!r}; `swarmd status {swarm.swarm_id}` lists them")
    return found


def status_values(statuses: Sequence[str] | None) -> "list[task_pb2.TaskStatus]":
    """Statuses as messages carry them; raises UsageError for words that are none."""
    from swarmd.client.encoding import task_status_value

    return [task_status_value(parse_task_status(text)) for text in statuses or ()]
