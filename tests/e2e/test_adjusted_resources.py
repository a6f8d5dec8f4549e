"""Resources that grow after an attempt ran out of them, through a real daemon: scales, caps, queues, history."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from swarmd import QueueLimits, StateUpdate
from swarmd.client import Swarm, SwarmClient
from tests.daemon import DaemonProcess, running

PATIENCE = 60.0

pytestmark = pytest.mark.e2e


@pytest.fixture
def daemon():
    with running("--local-cores", "4") as daemon:
        yield daemon


async def ran(daemon: DaemonProcess, **fallback: list[str]) -> list[tuple[str, int, float, str]]:
    """What each attempt of a task asked for that runs too long twice: cores, runtime and queue, and how it ended."""
    async with SwarmClient(daemon.address) as client, asyncio.timeout(PATIENCE):
        plan = Swarm("grows")
        resources: dict[str, Any] = {"cores": 1, "memory": "10M", "runtime": 0.4, "queue": "short", **fallback}
        scales = {"runtime": 1.0, "memory": 0.5, "cores": 1.0}
        command = 'if [ "$SWARM_ATTEMPT" -lt 3 ]; then sleep 60; fi'
        plan.array("work", command=command, tasks=["one"], resources=resources, resource_scales=scales, max_attempts=3)
        plan.paused = True
        swarm = await client.submit(plan)
        limits = [QueueLimits("", "short", cores=2, runtime_seconds=1.0)]
        await swarm.apply(StateUpdate(queue_limits=limits))
        await swarm.resume()
        assert (await swarm.wait()).counts.done == 1
        explanation = await swarm.explain(1)
        return [
            (asked.queue, asked.cores, asked.runtime_seconds, each.status.name)
            for each in explanation.attempts
            if (asked := each.resources) is not None
        ]


def shown(daemon: DaemonProcess) -> str:
    return subprocess.run(
        [sys.executable, "-m", "swarmd", "explain", "grows", "one", "--json"],
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout


async def test_they_grow_until_the_queue_caps_them(daemon):
    assert await ran(daemon) == [
        ("short", 1, 0.4, "ADJUSTING_RESOURCES"),
        ("short", 2, 0.8, "ADJUSTING_RESOURCES"),
        ("short", 2, 1.0, "DONE"),
    ]


async def test_they_move_on_to_a_queue_that_can_hold_them_and_the_command_line_shows_it(daemon):
    assert await ran(daemon, fallback_queues=["long"]) == [
        ("short", 1, 0.4, "ADJUSTING_RESOURCES"),
        ("short", 2, 0.8, "ADJUSTING_RESOURCES"),
        ("long", 4, 1.6, "DONE"),
    ]
    attempts = json.loads(await asyncio.to_thread(shown, daemon))["attempts"]
    assert [each["taskResources"]["queue"] for each in attempts] == ["short", "short", "long"]
    assert [each["taskResources"]["memoryMib"] for each in attempts] == [10, 15, 23]
