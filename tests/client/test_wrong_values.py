"""Values that no message can carry: an error that names them, at once, and nothing is left in the daemon."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from swarmd.client import LiveSwarm, NotFoundError, Swarm, SwarmClient
from swarmd.core.errors import InvalidInputError
from swarmd.core.model import Array, Task, TaskResources
from swarmd.workflow import WorkflowPlan
from tests.client.conftest import PullSwarm

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"priority": 1 << 31}, "priority"),
    ({"tasks": {"x": 5}}, "command"),
    ({"tasks": ["\ud800"]}, "name"),
    ({"resource_scales": {"memory": "0.5"}}, "resource_scales"),
    ({"max_concurrently_running": "5"}, "max_concurrently_running"),
    ({"command": 5}, "command"),
    ({"max_attempts": "3"}, "max_attempts"),
]


def wrong_swarm(name: str, given: dict[str, Any]) -> Swarm:
    """A wrong array after a good one that fills some chunks."""
    plan = Swarm(name, gateway="pull")
    plan.array("good", command="x" * 100, tasks=50_000)
    plan.array("wrong", **given)
    return plan


@pytest.mark.parametrize(("given", "field"), WRONG)
async def test_a_wrong_value_of_an_array_ends_submit(client: SwarmClient, given: dict[str, Any], field: str):
    with pytest.raises(InvalidInputError) as caught:
        await client.submit(wrong_swarm("wrong", given))
    assert caught.value.field == field
    with pytest.raises(NotFoundError):
        await client.swarm("wrong").status()


async def test_a_load_with_a_wrong_value_loads_nothing(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    plan = WorkflowPlan(
        "plan",
        arrays=[Array(5, "fifth")],
        task_resources=[TaskResources(5)],
        tasks=[Task(number, 5, 5, command="x" * 100) for number in range(5, 30_000)],
    )
    plan.tasks.append(Task(30_000, 5, 5, priority=1 << 31))
    async with asyncio.TaskGroup() as group:  # where a CancelledError would vanish
        loading = group.create_task(refused(swarm.load(plan)))
    assert loading.result().field == "priority"
    assert (await swarm.status()).counts.total == 4


async def refused(call: Awaitable[object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        await call
    return caught.value


async def test_what_a_load_raises_by_itself_is_raised(pull_swarm: PullSwarm):
    def tasks() -> Iterator[Task]:
        yield Task(5, 5, 5)
        raise LookupError("a defect")

    plan = SimpleNamespace(arrays=[Array(5, "fifth")], task_resources=[TaskResources(5)], tasks=tasks())
    with pytest.raises(LookupError, match="a defect"):
        await (await pull_swarm()).load(plan)


async def test_a_load_can_be_cancelled(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    plan = Swarm(first_id=5)
    plan.array("more", command="x" * 1000, tasks=100_000)
    loading = asyncio.ensure_future(swarm.load(plan))
    await asyncio.sleep(0.05)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda client, swarm: client.create_swarm("bad", environment={"S": 1}), "environment"),
        (
            lambda client, swarm: client.create_swarm("bad", max_concurrently_running=1 << 40),
            "max_concurrently_running",
        ),
        (lambda client, swarm: swarm.configure(max_concurrently_running="5"), "max_concurrently_running"),
    ],
)
async def test_wrong_settings(
    client: SwarmClient,
    pull_swarm: PullSwarm,
    call: Callable[[SwarmClient, LiveSwarm], Awaitable[object]],
    field: str,
):
    assert (await refused(call(client, await pull_swarm()))).field == field
