"""Watchers: how long after a change each of them has the message."""

import asyncio
import time
from contextlib import aclosing

import grpc
from benchmarks.suite.raw import APPLY_UPDATE, WATCH, Dialogue, channel_to, messages
from benchmarks.suite.results import Results, Row, Spread, at_most
from benchmarks.suite.sampling import percentile
from benchmarks.suite.servers import daemon
from benchmarks.suite.setting import Setting
from benchmarks.suite.swarms import flat, loaded, update

from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd._pb.swarm.v1 import task_pb2

PAUSE_SECONDS = 0.05
CONNECTIONS = 10
MOST_SECONDS = 120.0
SWARM = "w"
Arrivals = list[tuple[float, bytes]]


def delays(results: Results, setting: Setting) -> None:
    """Of many watchers, in a daemon that writes down."""
    with daemon(setting.place("w")) as served:
        watchers, changes = setting.sizes.watchers, setting.sizes.watched_changes
        found = asyncio.run(_delays(served.address, watchers, changes))
    note = "durable; all watchers are in one process, whose own time for each message counts, too"
    for name, share, goal in (("p50", 0.5, None), ("p99", 0.99, at_most(20.0))):
        what = f"a watcher's delay from change to message, {watchers} watchers, {name}"
        results.rows.append(Row(what, "ms", Spread.of(1e3 * percentile(found, share)), goal=goal, note=note))


async def _delays(address: str, watchers: int, changes: int) -> list[float]:
    """Seconds from each change, as the daemon stamped it, until each watcher has it."""
    channels = [channel_to(address) for _ in range(min(CONNECTIONS, watchers))]
    try:
        await loaded(channels[0], SWARM, flat(changes, 1))
        arrivals: list[Arrivals] = [[] for _ in range(watchers)]
        begun = [asyncio.Event() for _ in range(watchers)]
        watches = [
            asyncio.create_task(_watch(channels[place % len(channels)], arrivals[place], begun[place], changes))
            for place in range(watchers)
        ]
        async with asyncio.timeout(MOST_SECONDS):
            await asyncio.gather(*(each.wait() for each in begun))
            await _change(channels[0], changes)
            await asyncio.gather(*watches)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return [at - _stamp(message) for each in arrivals for at, message in each]


async def _watch(channel: grpc.aio.Channel, arrivals: Arrivals, begun: asyncio.Event, changes: int) -> None:
    """Note when each change comes; what is in it is read later."""
    request = pb.WatchSwarmRequest(swarm_id=SWARM).SerializeToString()
    async with aclosing(messages(channel, WATCH, request)) as stream:
        async for message in stream:
            if not begun.is_set():  # the first one is the snapshot
                begun.set()
                continue
            arrivals.append((time.time(), message))
            if len(arrivals) == changes:
                break


async def _change(channel: grpc.aio.Channel, changes: int) -> None:
    """One task after the other is done, with a pause between."""
    dialogue = Dialogue(channel, APPLY_UPDATE)
    for task_id in range(1, changes + 1):
        await dialogue.ask(update(SWARM, task_pb2.TASK_STATUS_DONE, [task_id]))
        await asyncio.sleep(PAUSE_SECONDS)
    await dialogue.end()


def _stamp(message: bytes) -> float:
    read = pb.WatchSwarmResponse.FromString(message)
    if not read.HasField("change"):
        raise RuntimeError(f"a watcher got something else than a change: {read}")
    return read.event_time.ToNanoseconds() / 1e9
