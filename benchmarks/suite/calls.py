"""Calls of the scheduler's service over a socket, beside a bare service that answers as many bytes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

import grpc
from benchmarks.suite.bare_service import PREFIX
from benchmarks.suite.raw import APPLY_UPDATE, HAS_WORK, TICK, answers, channel_to, unary
from benchmarks.suite.results import Results, Row, Spread, at_least, number, times_as_good
from benchmarks.suite.sampling import take_turns_async
from benchmarks.suite.servers import Daemon, bare_service, daemon
from benchmarks.suite.setting import Setting
from benchmarks.suite.swarms import flat, loaded, remove, update

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd._pb.swarm.v1 import task_pb2

BARE = "bare grpc.aio service"
CLIENTS = 64
CHANGES = 500
STREAMS = 8
TICK_BATCHES = 20
Times = Callable[[], Awaitable[float]]


class Costs(dict[str, list[float]]):
    """What servers used of their processors, by contender: seconds a call or message, of each round."""

    @asynccontextmanager
    async def of(self, name: str, server: Daemon, count: int) -> AsyncIterator[None]:
        """Of what is done meanwhile."""
        before = server.processor_seconds()
        yield
        self.setdefault(name, []).append((server.processor_seconds() - before) / count)

    def note(self, ours: str, peer: str) -> str:
        """The medians, which say more than rates where the client is as busy as the server."""
        mine, other = (1e6 * median(self[name]) for name in (ours, peer))
        return f"of the server's processor {number(mine)} us each, of the other's {number(other)} us"


# -- HasWork -----------------------------------------------------------------------------------------------------------


def has_work(results: Results, setting: Setting) -> None:
    """One client that waits for each answer, and many at once."""
    with ExitStack() as stack:
        ours = stack.enter_context(daemon(setting.place("d"), "--in-memory"))
        bare = stack.enter_context(bare_service(setting.place("b")))
        asyncio.run(_has_work(results, setting, ours, bare))


async def _has_work(results: Results, setting: Setting, ours: Daemon, bare: Daemon) -> None:
    async with channel_to(ours.address) as channel:
        await loaded(channel, "s", flat(1000, 1))
        request = pb.HasWorkRequest(swarm_id="s").SerializeToString()
        size = len(await unary(channel, HAS_WORK)(request))
    for clients in (1, CLIENTS):
        calls = setting.sizes.calls * (1 if clients == 1 else 2)
        costs = Costs()
        contenders: dict[str, Times] = {
            "ours": partial(_rate, "ours", costs, ours, HAS_WORK, request, clients, calls),
            "peer": partial(_rate, "peer", costs, bare, f"{PREFIX}Unary{size}", request, clients, calls),
        }
        found = await take_turns_async(setting.sizes.rounds, contenders)
        name = f"HasWork, {clients} client{'s' if clients > 1 else ''}"
        goal = times_as_good(0.85, "85% of its rate")
        note = costs.note("ours", "peer")
        results.rows.append(
            Row(name, "calls/s", found["ours"], found["peer"], BARE, goal, more_is_better=True, note=note)
        )


async def _rate(
    name: str, costs: Costs, server: Daemon, method: str, request: bytes, clients: int, calls: int
) -> float:
    """Calls a second of so many clients, each with a connection of its own and one call at a time."""
    channels = [channel_to(server.address) for _ in range(clients)]

    async def client(channel: grpc.aio.Channel, count: int) -> None:
        call = unary(channel, method)
        for _ in range(count):
            await call(request)

    try:
        await asyncio.gather(*(client(channel, 5) for channel in channels))
        made = calls // clients * clients
        async with costs.of(name, server, made):
            begun = time.perf_counter()
            await asyncio.gather(*(client(channel, calls // clients) for channel in channels))
            seconds = time.perf_counter() - begun
        return made / seconds
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


# -- ApplyUpdate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Servers:
    """What updates are sent to."""

    memory: Daemon
    durable: Daemon
    bare: Daemon


def updates(results: Results, setting: Setting) -> None:
    """Streams of small and of full messages, in memory and durable, and many streams of full ones."""
    with ExitStack() as stack:
        servers = Servers(
            memory=stack.enter_context(daemon(setting.place("m"), "--in-memory")),
            durable=stack.enter_context(daemon(setting.place("d"))),
            bare=stack.enter_context(bare_service(setting.place("b"))),
        )
        asyncio.run(_updates(results, setting, servers))


async def _updates(results: Results, setting: Setting, servers: Servers) -> None:
    sizes = setting.sizes
    for changes, messages, share in ((1, sizes.messages, 0.6), (CHANGES, sizes.full_messages, 0.5)):
        name = f"ApplyUpdate, messages of {changes} change{'s' if changes > 1 else ''}"
        found, costs = await _update_rates(setting, servers, changes, messages)
        for kind, words, peer, peer_name, goal in (
            ("memory", "in memory", "bare", BARE, times_as_good(share, f"{share:.0%} of its rate")),
            ("durable", "durable", "memory", "in memory", times_as_good(0.7, "70% of in memory")),
        ):
            note = costs.note(kind, peer)
            results.rows.append(
                Row(
                    f"{name}, {words}",
                    "messages/s",
                    found[kind],
                    found[peer],
                    peer_name,
                    goal,
                    more_is_better=True,
                    note=note,
                )
            )
    found, costs = await _update_rates(setting, servers, CHANGES, sizes.full_messages, STREAMS)
    rates = {kind: Spread.of(CHANGES * each for each in found[kind].values) for kind in found}
    for kind, words, wanted in (("memory", "in memory", at_least(3e6)), ("durable", "durable", None)):
        name = f"changes through ApplyUpdate, {STREAMS} streams of {CHANGES} a message, {words}"
        row = Row(name, "changes/s", rates[kind], rates["bare"], BARE, wanted, more_is_better=True)
        results.rows.append(row)


async def _update_rates(
    setting: Setting, servers: Servers, changes: int, messages: int, streams: int = 1
) -> tuple[dict[str, Spread], Costs]:
    costs = Costs()
    contenders: dict[str, Times] = {
        "memory": partial(_update_rate, "memory", costs, servers.memory, changes, messages, streams),
        "durable": partial(_update_rate, "durable", costs, servers.durable, changes, messages, streams),
        "bare": partial(_bare_rate, "bare", costs, servers.bare, changes, messages, streams),
    }
    return await take_turns_async(setting.sizes.rounds, contenders), costs


async def _update_rate(name: str, costs: Costs, server: Daemon, changes: int, messages: int, streams: int) -> float:
    """Messages a second: each makes so many queued tasks DONE, and is answered."""
    async with channel_to(server.address) as channel:
        tasks = changes * messages
        await loaded(channel, "u", flat(tasks, min(100, tasks)))
        await _queue_all(channel, "u")
        done = task_pb2.TASK_STATUS_DONE
        sent = [update("u", done, range(1 + place, 1 + place + changes)) for place in range(0, tasks, changes)]
        async with costs.of(name, server, messages):
            seconds, told = await _stream(channel, APPLY_UPDATE, sent, streams)
        for answer in told:
            if pb.ApplyUpdateResponse.FromString(answer).changed_count != changes:
                raise RuntimeError(f"an update was not applied: {pb.ApplyUpdateResponse.FromString(answer)}")
        await remove(channel, "u")
    return messages / seconds


async def _queue_all(channel: grpc.aio.Channel, swarm_id: str) -> None:
    """Tick until nothing is ready any more."""
    request = pb.TickRequest(swarm_id=swarm_id).SerializeToString()
    while pb.TickResponse.FromString(await unary(channel, TICK)(request)).ready_to_run_count:
        pass


async def _bare_rate(name: str, costs: Costs, server: Daemon, changes: int, messages: int, streams: int) -> float:
    """The same messages to the bare service, which answers as much as ours: about a sequence, counts, a revision."""
    async with channel_to(server.address) as channel:
        done = task_pb2.TASK_STATUS_DONE
        size = len(pb.ApplyUpdateResponse(changed_count=changes, revision=messages).SerializeToString())
        sent = [update("u", done, range(1 + at, 1 + at + changes)) for at in range(0, changes * messages, changes)]
        async with costs.of(name, server, messages):
            seconds, _ = await _stream(channel, f"{PREFIX}Stream{size}", sent, streams)
    return messages / seconds


async def _stream(channel: grpc.aio.Channel, method: str, sent: list[bytes], streams: int) -> tuple[float, list[bytes]]:
    """Send all, over so many streams at once, and take every answer. Seconds, and the answers."""

    async def one(part: list[bytes]) -> list[bytes]:
        return [answer async for answer in answers(channel, method, iter(part))]

    parts = [sent[place::streams] for place in range(streams)]
    begun = time.perf_counter()
    found = await asyncio.gather(*map(one, parts))
    seconds = time.perf_counter() - begun
    taken = [answer for part in found for answer in part]
    if len(taken) != len(sent):
        raise RuntimeError(f"{len(taken)} answers to {len(sent)} messages")
    return seconds, taken


# -- Tick --------------------------------------------------------------------------------------------------------------


def pulled_ticks(results: Results, setting: Setting) -> None:
    """Ticks that hand out 10,000 tasks in 20 batches, beside a bare answer as large."""
    with ExitStack() as stack:
        memory = stack.enter_context(daemon(setting.place("m"), "--in-memory")).address
        durable = stack.enter_context(daemon(setting.place("d"))).address
        bare = stack.enter_context(bare_service(setting.place("b"))).address
        asyncio.run(_pulled_ticks(results, setting, memory, durable, bare))


async def _pulled_ticks(results: Results, setting: Setting, memory: str, durable: str, bare: str) -> None:
    ticks = max(5, setting.sizes.calls // 100)
    tasks = TICK_BATCHES * CHANGES * ticks
    request = pb.TickRequest(swarm_id="t", max_batches=TICK_BATCHES).SerializeToString()
    async with channel_to(memory) as one, channel_to(durable) as other, channel_to(bare) as third:
        await loaded(one, "t", flat(tasks, TICK_BATCHES))
        await loaded(other, "t", flat(tasks, TICK_BATCHES))
        rates = {name: _timed_ticks(channel, request) for name, channel in (("memory", one), ("durable", other))}
        found: dict[str, list[float]] = {"memory": [], "durable": [], "bare": []}
        for _ in range(ticks):
            size = 0
            for name, measured in rates.items():
                size, seconds = await next(measured)
                found[name].append(seconds)
            begun = time.perf_counter()
            await unary(third, f"{PREFIX}Unary{size}")(request)
            found["bare"].append(time.perf_counter() - begun)
    peer = Spread.of(1e3 * each for each in found["bare"][1:])
    for kind, words in (("memory", "in memory"), ("durable", "durable")):
        goal = times_as_good(0.5, "twice its time at most") if kind == "memory" else None
        name = f"Tick of {TICK_BATCHES} batches of {CHANGES}, pull gateway, {words}"
        results.rows.append(Row(name, "ms", Spread.of(1e3 * each for each in found[kind][1:]), peer, BARE, goal))


def _timed_ticks(channel: grpc.aio.Channel, request: bytes) -> Iterator[Awaitable[tuple[int, float]]]:
    async def tick() -> tuple[int, float]:
        begun = time.perf_counter()
        answer = await unary(channel, TICK)(request)
        seconds = time.perf_counter() - begun
        batches = pb.TickResponse.FromString(answer).batches
        if [len(batch.task_ids) for batch in batches] != [CHANGES] * TICK_BATCHES:
            raise RuntimeError(f"a tick gave {len(batches)} batches of {[len(batch.task_ids) for batch in batches]}")
        return len(answer), seconds

    while True:
        yield tick()
