"""Binding: task resources as Jobmon's server knows them, each bound once, and what its queues can hold."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from swarmd.core.model import QueueLimits, TaskResources
from swarmd.gateways.jobmon.http import insist
from swarmd.gateways.jobmon.resources import kind_of, queue_limits, requested_resources
from swarmd.gateways.jobmon.server import JobmonServer, QueueFacts

PATIENCE_SECONDS = 10.0


class NoSuchQueueError(Exception):
    """The server does not know the queue, or its cluster."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a batch is queued with."""

    resources_id: int
    cluster_id: int


class Binding:
    """The resources and queues of one swarm."""

    def __init__(self, server: JobmonServer, tell: Callable[[list[QueueLimits]], None]) -> None:
        """`tell` hears what each queue can hold, when it is first used and when that changes."""
        self._server = server
        self._tell = tell
        self._bound: dict[str, int] = {}
        self._queues: dict[tuple[str, str], QueueFacts | None] = {}
        self._told: dict[tuple[str, str], QueueLimits] = {}
        self._one_at_a_time = asyncio.Lock()

    async def bound(self, resources: TaskResources) -> Bound:
        """Bind them, unless the same were bound before. Raises NoSuchQueueError or CallError."""
        known = self._known(resources)
        if known is not None:
            return known
        async with self._one_at_a_time:
            for queue in resources.fallback_queues:
                await self._queue(resources.cluster, queue)
            facts = await self._queue(resources.cluster, resources.queue)
            if facts is None:
                message = f"Jobmon's server has no queue {resources.queue!r} in a cluster {resources.cluster!r}"
                raise NoSuchQueueError(message)
            kind, requested = kind_of(resources), requested_resources(resources)
            key = _key(facts, resources)
            if key not in self._bound:
                self._bound[key] = await insist(
                    lambda: self._server.bind_resources(facts.queue_id, kind, requested), seconds=PATIENCE_SECONDS
                )
            return Bound(self._bound[key], facts.cluster_id)

    def _known(self, resources: TaskResources) -> Bound | None:
        """What was bound before: for that nobody waits."""
        if any((resources.cluster, queue) not in self._queues for queue in resources.fallback_queues):
            return None
        facts = self._queues.get((resources.cluster, resources.queue))
        bound = None if facts is None else self._bound.get(_key(facts, resources))
        return None if facts is None or bound is None else Bound(bound, facts.cluster_id)

    async def look_again(self) -> None:
        """Ask what the queues that are used can hold now. Raises CallError."""
        for cluster, queue in list(self._queues):
            self._know(cluster, queue, await self._server.queue_facts(cluster, queue))

    async def _queue(self, cluster: str, queue: str) -> QueueFacts | None:
        if self._queues.get((cluster, queue)) is None:
            facts = await insist(lambda: self._server.queue_facts(cluster, queue), seconds=PATIENCE_SECONDS)
            self._know(cluster, queue, facts)
        return self._queues[cluster, queue]

    def _know(self, cluster: str, queue: str, facts: QueueFacts | None) -> None:
        self._queues[cluster, queue] = facts
        limits = None if facts is None else queue_limits(cluster, queue, facts.parameters)
        if limits is not None and self._told.get((cluster, queue)) != limits:
            self._told[cluster, queue] = limits
            self._tell([limits])


def _key(facts: QueueFacts, resources: TaskResources) -> str:
    """The same for resources that are bound as one."""
    requested = json.dumps(requested_resources(resources), sort_keys=True)
    return f"{facts.queue_id} {kind_of(resources)} {requested}"
