"""The blocking client: the same as the asyncio one, from any thread, also where an event loop runs."""

import ast
import asyncio
import gc
import importlib.util
import inspect
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from swarmd.client import End, LiveSwarm, NotFoundError, Snapshot, Swarm, UpdateStream, blocking
from swarmd.client import SwarmClient as AsyncioClient
from swarmd.client.blocking.portal import MOST_AT_ONCE, Portal, shared_portal
from tests.daemon import DaemonProcess, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[blocking.SwarmClient]:
    with blocking.SwarmClient(daemon.address) as made:
        yield made


def pull_swarm(client: blocking.SwarmClient, name: str, tasks: int = 4) -> blocking.LiveSwarm:
    plan = Swarm(name, gateway="pull")
    plan.array("simulate", command="simulate {name}", tasks=tasks)
    return client.submit(plan)


def test_a_swarm_from_its_creation_to_its_end(client: blocking.SwarmClient):
    client.connect()
    swarm = pull_swarm(client, "life")
    (batch,) = swarm.tick().batches
    with client.updates("life") as updates:
        updates.running(batch.task_ids, batch.attempts)
        updates.done(batch.task_ids, batch.attempts)
    assert swarm.wait(timeout=30).outcome == "DONE"
    assert swarm.swarm_id in [found.swarm_id for found in client.swarms()]
    swarm.delete()
    with pytest.raises(NotFoundError):
        client.swarm("life").status()


def test_streams_are_iterators(client: blocking.SwarmClient):
    swarm = pull_swarm(client, "streams", 3 * MOST_AT_ONCE)
    assert [task.task_id for task in swarm.tasks()] == list(range(1, 3 * MOST_AT_ONCE + 1))
    events = swarm.watch()
    assert isinstance(next(events), Snapshot)
    swarm.done(np.arange(1, 3 * MOST_AT_ONCE + 1))
    assert isinstance(list(events)[-1], End)


def test_an_iterator_can_be_left(client: blocking.SwarmClient):
    swarm = pull_swarm(client, "left")
    for event in swarm.watch(until_finished=False):
        assert isinstance(event, Snapshot)
        break
    tasks = swarm.tasks()
    next(tasks)
    del tasks
    assert swarm.status().counts.total == 4


def test_errors_of_streams_are_raised(client: blocking.SwarmClient):
    with pytest.raises(NotFoundError):
        list(client.swarm("nobody").tasks())
    with pytest.raises(NotFoundError):
        next(client.swarm("nobody").watch())


def test_many_threads_may_use_one_client(client: blocking.SwarmClient):
    swarm = pull_swarm(client, "threads", 400)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(swarm.done, range(1, 401)))
    assert sum(result.changed_count for result in results) == 400
    assert swarm.status().counts.done == 400


async def test_it_works_where_an_event_loop_runs(daemon: DaemonProcess):
    with blocking.SwarmClient(daemon.address) as client:
        async with AsyncioClient(daemon.address) as asyncio_client:
            assert len(client.swarms()) == len(await asyncio_client.swarms())


def test_an_interrupt_ends_the_waiting(client: blocking.SwarmClient):
    swarm = pull_swarm(client, "interrupted")
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        swarm.wait(timeout=60)
    timer.join()
    assert swarm.status().counts.total == 4


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.3])
def test_an_interrupted_submission_is_taken_back(client: blocking.SwarmClient, caplog, seconds: float):
    plan = Swarm("interrupted-submission", gateway="pull")
    plan.array("simulate", tasks=300_000)
    main = threading.get_ident()
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT))

    def work() -> None:
        timer.start()
        client.submit(plan)

    with pytest.raises(KeyboardInterrupt):
        work()
    timer.join()
    assert "interrupted-submission" not in [swarm.swarm_id for swarm in client.swarms()]
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_an_interrupt_lets_the_work_clean_up():
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)
            cleaned.append(True)
            raise KeyError

    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        shared_portal().call(work())
    assert cleaned == [True]


def test_an_iterator_that_is_collected_in_the_loop_ends_its_stream(caplog, recwarn):
    portal, ended = shared_portal(), threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                yield number
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    held = [portal.iterate(numbers())]
    assert next(held[0]) == 0

    async def drop() -> None:
        held.clear()

    portal.call(drop())
    assert ended.wait(5)
    assert not [str(warning.message) for warning in recwarn]


def test_clients_share_one_thread(client: blocking.SwarmClient, daemon: DaemonProcess):
    others = [blocking.SwarmClient(daemon.address) for _ in range(5)]
    assert [len(other.swarms()) for other in others]
    for other in others:
        other.close()
    assert [thread.name for thread in threading.enumerate()].count("swarmd-client") == 1


def test_it_refuses_its_own_loop():
    portal = shared_portal()

    async def within() -> None:
        portal.call(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="in its own event loop"):
        portal.call(within())


def test_a_process_that_forgets_to_close_ends_quietly(daemon: DaemonProcess):
    program = (
        "from swarmd.client.blocking import SwarmClient\n"
        f"client = SwarmClient({daemon.address!r})\n"
        "print(len(client.swarms()) >= 0)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_loop_that_is_closed_stays_so():
    portal = Portal()
    assert portal.call(asyncio.sleep(0, "value")) == "value"
    until(lambda: portal.is_here, "the thread")


@pytest.mark.parametrize(
    ("made", "model"),
    [
        (blocking.SwarmClient, AsyncioClient),
        (blocking.LiveSwarm, LiveSwarm),
        (blocking.UpdateStream, UpdateStream),
    ],
)
def test_it_has_every_method_with_the_same_arguments(made: type, model: type):
    names = [name for name, value in vars(model).items() if not name.startswith("_") and callable(value)]
    assert names
    for name in names:
        ours, theirs = inspect.signature(getattr(made, name)), inspect.signature(getattr(model, name))
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
        assert "await " not in (getattr(made, name).__doc__ or "")


def test_the_file_is_what_its_generator_makes():
    spec = importlib.util.spec_from_file_location("generate_blocking", ROOT / "scripts" / "generate_blocking.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    made, kept = ast.parse(generator.generated()), ast.parse(generator.TARGET.read_text())
    assert classes_of(made) == classes_of(kept), "run: python scripts/generate_blocking.py"


def classes_of(tree: ast.Module) -> list[str]:
    return [ast.dump(node) for node in tree.body if isinstance(node, ast.ClassDef)]
