"""Calls of the scheduler's service over a socket, beside a bare service that answers as many bytes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial

import grpc
from benchmarks.suite.bare_service import PREFIX
from benchmarks.suite.raw import APPLY_UPDATE, HAS_WORK, TICK, answers, channel_to, unary
from benchmarks.suite.results import Results, Row, Spread, at_least, times_as_good
from benchmarks.suite.sampling import take_turns_async
from benchmarks.suite.servers import bare_service, daemon
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


# -- HasWork -----------------------------------------------------------------------------------------------------------


def has_work(results: Results, setting: Setting) -> None:
    """One client that waits for each answer, and many at once."""
    with ExitStack() as stack:
        ours = stack.enter_context(daemon(setting.place("d"), "--in-memory"))
        bare = stack.enter_context(bare_service(setting.place("b")))
        asyncio.run(_has_work(results, setting, ours.address, bare))


async def _has_work(results: Results, setting: Setting, ours: str, bare: str) -> None:
    async with channel_to(ours) as channel:
        await loaded(channel, "s", flat(1000, 1))
        request = pb.HasWorkRequest(swarm_id="s").SerializeToString()
        size = len(await unary(channel, HAS_WORK)(request))
    for clients in (1, CLIENTS):
        calls = setting.sizes.calls * (1 if clients == 1 else 2)
        contenders: dict[str, Times] = {
            "ours": partial(_rate, ours, HAS_WORK, request, clients, calls),
            "peer": partial(_rate, bare, f"{PREFIX}Unary{size}", request, clients, calls),
        }
        found = await take_turns_async(setting.sizes.rounds, contenders)
        name = f"HasWork, {clients} client{'s' if clients > 1 else ''}"
        goal = times_as_good(0.85, "85% of its rate")
        results.rows.append(Row(name, "calls/s", found["ours"], found["peer"], BARE, goal, more_is_better=True))


async def _rate(address: str, method: str, request: bytes, clients: int, calls: int) -> float:
    """Calls a second of so many clients, each with a connection of its own and one call at a time."""
    channels = [channel_to(address) for _ in range(clients)]

    async def client(channel: grpc.aio.Channel, count: int) -> None:
        call = unary(channel, method)
        for _ in range(count):
            await call(request)

    try:
        await asyncio.gather(*(client(channel, 5) for channel in channels))
        begun = time.perf_counter()
        await asyncio.gather(*(client(channel, calls // clients) for channel in channels))
        return calls // clients * clients / (time.perf_counter() - begun)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


# -- ApplyUpdate -------------------------------------------------------------------------------------------------------


def updates(results: Results, setting: Setting) -> None:
    """Streams of small and of full messages, in memory and durable, and many streams of full ones."""
    with ExitStack() as stack:
        memory = stack.enter_context(daemon(setting.place("m"), "--in-memory")).address
        durable = stack.enter_context(daemon(setting.place("d"))).address
        bare = stack.enter_context(bare_service(setting.place("b")))
        asyncio.run(_updates(results, setting, memory, durable, bare))


async def _updates(results: Results, setting: Setting, memory: str, durable: str, bare: str) -> None:
    sizes, rounds = setting.sizes, setting.sizes.rounds
    for changes, messages, share in ((1, sizes.messages, 0.6), (CHANGES, sizes.full_messages, 0.5)):
        contenders: dict[str, Times] = {
            "memory": partial(_update_rate, memory, changes, messages),
            "durable": partial(_update_rate, durable, changes, messages),
            "bare": partial(_bare_rate, bare, changes, messages),
        }
        found = await take_turns_async(rounds, contenders)
        name = f"ApplyUpdate, messages of {changes} change{'s' if changes > 1 else ''}"
        goal = times_as_good(share, f"{share:.0%} of its rate")
        results.rows.append(
            Row(f"{name}, in memory", "messages/s", found["memory"], found["bare"], BARE, goal, more_is_better=True)
        )
        goal = times_as_good(0.7, "70% of in memory")
        results.rows.append(
            Row(
                f"{name}, durable",
                "messages/s",
                found["durable"],
                found["memory"],
                "in memory",
                goal,
                more_is_better=True,
            )
        )
    contenders = {
        "memory": partial(_update_rate, memory, CHANGES, sizes.full_messages, STREAMS),
        "durable": partial(_update_rate, durable, CHANGES, sizes.full_messages, STREAMS),
    }
    found = await take_turns_async(rounds, contenders)
    for kind, words in (("memory", "in memory"), ("durable", "durable")):
        rate = Spread.of(CHANGES * each for each in found[kind].values)
        name = f"changes through ApplyUpdate, {STREAMS} streams of {CHANGES} a message, {words}"
        wanted = at_least(3e6) if kind == "memory" else None
        results.rows.append(Row(name, "changes/s", rate, goal=wanted, more_is_better=True))


async def _update_rate(address: str, changes: int, messages: int, streams: int = 1) -> float:
    """Messages a second: each makes so many queued tasks DONE, and is answered."""
    async with channel_to(address) as channel:
        tasks = changes * messages
        await loaded(channel, "u", flat(tasks, min(100, tasks)))
        await _queue_all(channel, "u")
        done = task_pb2.TASK_STATUS_DONE
        sent = [update("u", done, range(1 + place, 1 + place + changes)) for place in range(0, tasks, changes)]
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


async def _bare_rate(address: str, changes: int, messages: int) -> float:
    """The same messages to the bare service, which answers as much as ours: about a sequence, counts, a revision."""
    async with channel_to(address) as channel:
        done = task_pb2.TASK_STATUS_DONE
        size = len(pb.ApplyUpdateResponse(changed_count=changes, revision=messages).SerializeToString())
        sent = [update("u", done, range(1 + at, 1 + at + changes)) for at in range(0, changes * messages, changes)]
        seconds, _ = await _stream(channel, f"{PREFIX}Stream{size}", sent, 1)
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
        bare = stack.enter_context(bare_service(setting.place("b")))
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
