"""Resources that grow after an attempt ran out of them, through a real daemon and real engines: scales, caps, queues.

With Slurm, which knows itself what its queues can hold: `tests/gateways/slurm/test_adjusting.py`.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from swarmd import QueueLimits, StateUpdate
from swarmd.client import Swarm, SwarmClient
from tests.daemon import DaemonProcess, running, short_home
from tests.gateways.remote.engines import BUILD_SECONDS, NO_GO, go_engine, has_go, python_engine

PATIENCE = 60.0
ENGINES = [
    "local",
    "remote in Python",
    pytest.param("remote in Go", marks=pytest.mark.skipif(not has_go(), reason=NO_GO)),
]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(BUILD_SECONDS + 300)]


@dataclass
class Where:
    """A daemon, and the gateway that its swarms name."""

    daemon: DaemonProcess
    gateway: str
    gateway_options: dict[str, str]

    def swarmd(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "swarmd", *arguments],
            env=self.daemon.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout


@pytest.fixture(params=ENGINES)
def where(request) -> Iterator[Where]:
    with contextlib.ExitStack() as stack:
        options = {}
        if request.param != "local":
            home = stack.enter_context(short_home())
            made = python_engine if request.param == "remote in Python" else go_engine
            engine = stack.enter_context(made(home, cores=4))
            engine.start()
            options["address"] = engine.address
        daemon = stack.enter_context(running("--local-cores", "4"))
        yield Where(daemon, request.param.split()[0], options)


async def ran(where: Where, *limits: QueueLimits, ends: bool = True, **more: Any) -> list[tuple[str, int, float, str]]:
    """What each attempt of a task asked for that runs too long twice: cores, runtime and queue, and how it ended."""
    async with SwarmClient(where.daemon.address) as client, asyncio.timeout(PATIENCE):
        plan = Swarm("grows", gateway=where.gateway, gateway_options=where.gateway_options)
        resources: dict[str, Any] = {"cores": 1, "memory": "10M", "runtime": 0.4, "queue": "short", **more}
        scales = {"runtime": 1.0, "memory": 0.5, "cores": 1.0}
        command = 'if [ "$SWARM_ATTEMPT" -lt 3 ]; then sleep 60; fi' if ends else "sleep 60"
        plan.array("work", command=command, tasks=["one"], resources=resources, resource_scales=scales, max_attempts=3)
        plan.paused = True
        swarm = await client.submit(plan)
        await swarm.apply(StateUpdate(queue_limits=list(limits)))
        await swarm.resume()
        assert (await swarm.wait()).counts.done == ends
        explanation = await swarm.explain(1)
        return [
            (asked.queue, asked.cores, asked.runtime_seconds, each.status.name)
            for each in explanation.attempts
            if (asked := each.resources) is not None
        ]


SHORT = QueueLimits("", "short", cores=2, runtime_seconds=1.0)


async def test_they_grow_until_the_queue_caps_them(where):
    assert await ran(where, SHORT) == [
        ("short", 1, 0.4, "ADJUSTING_RESOURCES"),
        ("short", 2, 0.8, "ADJUSTING_RESOURCES"),
        ("short", 2, 1.0, "DONE"),
    ]


async def test_they_move_on_to_a_queue_that_can_hold_them_and_the_command_line_shows_it(where):
    assert await ran(where, SHORT, fallback_queues=["long"]) == [
        ("short", 1, 0.4, "ADJUSTING_RESOURCES"),
        ("short", 2, 0.8, "ADJUSTING_RESOURCES"),
        ("long", 4, 1.6, "DONE"),
    ]
    attempts = json.loads(await asyncio.to_thread(where.swarmd, "explain", "grows", "one", "--json"))["attempts"]
    assert [each["taskResources"]["queue"] for each in attempts] == ["short", "short", "long"]
    assert [each["taskResources"]["memoryMib"] for each in attempts] == [10, 15, 23]
    text = await asyncio.to_thread(where.swarmd, "explain", "grows", "one")
    assert re.search(r"^ +1  ADJUSTING_RESOURCES .* 1 core, 10 MiB, 0.4 s on short ", text, re.MULTILINE)
    assert re.search(r"^ +3  DONE .* 4 cores, 23 MiB, 1.6 s on long$", text, re.MULTILINE)


async def test_when_no_queue_can_hold_them_they_stay_and_it_is_said_what_caps_them(where):
    long = QueueLimits("", "long", cores=2, runtime_seconds=1.5)
    assert await ran(where, SHORT, long, ends=False, fallback_queues=["long"]) == [
        ("short", 1, 0.4, "ADJUSTING_RESOURCES"),
        ("short", 2, 0.8, "ADJUSTING_RESOURCES"),
        ("short", 2, 1.0, "ADJUSTING_RESOURCES"),
    ]
    text = await asyncio.to_thread(where.swarmd, "explain", "grows", "one")
    assert (
        "Its resources are capped by queue 'short': an attempt asks for at most 2 cores and 1 s of runtime. "
        "Its fallback queue 'long' cannot hold what it would need."
    ) in text
