"""What starts next on a machine of so many cores and so much memory."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.core.batch import TaskSpec
from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local.attempt import Attempt, LocalSwarm, Phase
from swarmd.gateways.local.machine import Machine, Shape, detected_memory_mib
from swarmd.gateways.local.waiting import MACHINES_OF_OVERTAKERS, WaitingLines
from tests.gateways.recording import batch_of, local_engine

MACHINE = Shape(4, 100)
shapes = st.builds(Shape, st.integers(1, MACHINE.cores), st.integers(0, MACHINE.memory_mib))


def attempt(order: int, shape: Shape) -> Attempt:
    return Attempt(LocalSwarm(SwarmInfo("s"), {}, Path("logs")), 1, TaskSpec(order, 1, "", ""), shape, 0.0, order)


def line_of(*shapes: Shape) -> WaitingLines:
    waiting = WaitingLines()
    for order, shape in enumerate(shapes):
        waiting.add(attempt(order, shape))
    return waiting


def start_all(waiting: WaitingLines, machine: Machine) -> list[Attempt]:
    started = []
    while chosen := waiting.take(machine):
        machine.take(chosen.shape)
        started.append(chosen)
    return started


def orders(attempts: list[Attempt]) -> list[int]:
    return [attempt.order for attempt in attempts]


def test_the_oldest_starts_first_whatever_its_shape():
    waiting = line_of(Shape(1, 0), Shape(2, 0), Shape(1, 0), Shape(1, 5))
    assert orders(start_all(waiting, Machine(5, 100))) == [0, 1, 2, 3]


def test_smaller_ones_go_past_one_that_does_not_fit():
    machine = Machine(4, 100)
    machine.take(Shape(2, 0))
    assert orders(start_all(line_of(Shape(3, 0), Shape(1, 0), Shape(1, 0)), machine)) == [1, 2]


def test_memory_counts_like_cores():
    waiting = line_of(Shape(1, 60), Shape(1, 60), Shape(1, 40))
    assert orders(start_all(waiting, Machine(4, 100))) == [0, 2]


def test_a_large_one_is_overtaken_by_a_few_machines_full_and_no_more():
    machine = Machine(4, 100)
    waiting = line_of(Shape(4, 0), *[Shape(1, 0)] * 1000)
    machine.take(Shape(1, 0))
    overtakers = 0
    while chosen := waiting.take(machine):
        overtakers += 1
        assert chosen.order != 0
    assert overtakers == MACHINES_OF_OVERTAKERS * 4
    machine.give_back(Shape(1, 0))
    following = waiting.take(machine)
    assert following is not None
    assert following.order == 0


def test_what_was_dropped_is_never_taken():
    waiting = WaitingLines()
    dropped, kept = attempt(0, Shape(4, 0)), attempt(1, Shape(1, 0))
    for one in (dropped, kept):
        waiting.add(one)
    dropped.phase = Phase.OVER
    waiting.note_dropped()
    assert len(waiting) == 1
    assert waiting.take(Machine(1, 0)) is kept
    assert waiting.take(Machine(4, 0)) is None


def test_what_was_put_back_comes_first_again():
    waiting = line_of(Shape(1, 0), Shape(1, 0))
    machine = Machine(2, 0)
    first = waiting.take(machine)
    assert first is not None
    waiting.put_back(first)
    assert len(waiting) == 2
    assert waiting.take(machine) is first


@given(st.lists(shapes, max_size=60), st.randoms(use_true_random=False))
def test_usage_never_exceeds_the_machine_and_everything_starts(wanted, random):
    machine, waiting = Machine(*MACHINE), line_of(*wanted)
    running: list[Attempt] = []
    seen: list[int] = []
    oldest, passed = 0, 0
    while len(seen) < len(wanted):
        for chosen in start_all(waiting, machine):
            running.append(chosen)
            seen.append(chosen.order)
            oldest_now = min(set(range(len(wanted))) - set(seen), default=len(wanted))
            passed = passed + chosen.shape.cores if oldest_now == oldest else 0
            oldest = oldest_now
            assert passed < (MACHINES_OF_OVERTAKERS + 1) * machine.cores
        used = [sum(attempt.shape[place] for attempt in running) for place in (0, 1)]
        assert used == [machine.used_cores, machine.used_memory_mib]
        assert used[0] <= MACHINE.cores
        assert used[1] <= MACHINE.memory_mib
        assert running, "nothing runs and nothing starts"
        machine.give_back(running.pop(random.randrange(len(running))).shape)
    assert Counter(seen) == Counter(range(len(wanted)))
    assert len(waiting) == 0


@given(st.lists(shapes, min_size=2, max_size=30))
def test_tasks_of_one_shape_start_in_order_of_arrival(wanted):
    machine, waiting = Machine(*MACHINE), line_of(*wanted)
    order_of: dict[Shape, list[int]] = {}
    while started := start_all(waiting, machine):
        for one in started:
            order_of.setdefault(one.shape, []).append(one.order)
            machine.give_back(one.shape)
    assert all(order == sorted(order) for order in order_of.values())


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(4, 100), ""),
        (Shape(5, 100), "asks for 5 cores, and this machine has 4"),
        (Shape(4, 101), "asks for 101 MiB of memory, and this machine has 100 MiB"),
    ],
)
def test_what_can_never_fit_is_said_with_both_numbers(shape, words):
    assert Machine(*MACHINE).objection(shape) == words


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(3, 0), "it waits for room on this machine: it asks for 3 cores; 2 of 4 cores are in use"),
        (
            Shape(1, 90),
            (
                "it waits for room on this machine: it asks for 1 core and 90 MiB; 2 of 4 cores are in use, "
                "20 of 100 MiB are asked for"
            ),
        ),
        (Shape(2, 0), "it waits for its turn on this machine: it asks for 2 cores; 2 of 4 cores are in use"),
    ],
)
def test_what_a_task_waits_for_is_said_with_the_numbers(shape: Shape, words: str):
    machine = Machine(MACHINE.cores, MACHINE.memory_mib)
    machine.take(Shape(2, 20))
    assert machine.wait_of(shape) == words


def test_a_machine_needs_a_core():
    with pytest.raises(ValueError, match="0 cores"):
        Machine(0, 100)


def test_the_machine_is_detected():
    machine = Machine()
    assert machine.cores >= 1
    assert machine.memory_mib > 100


def test_the_lowest_limit_of_all_control_groups_counts(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/v1\n1:cpu,cpuacct:/x\n0::/a/b\n")
    for folder, text in (("a", "max\n"), ("a/b", f"{200 << 20}\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "memory.max").write_text(text)
    assert detected_memory_mib(own, tmp_path) == 200
    (tmp_path / "a" / "memory.max").write_text(f"{150 << 20}\n")
    assert detected_memory_mib(own, tmp_path) == 150
    (tmp_path / "memory" / "v1").mkdir(parents=True)
    (tmp_path / "memory" / "v1" / "memory.limit_in_bytes").write_text(f"{100 << 20}\n")
    assert detected_memory_mib(own, tmp_path) == 100


def test_without_control_groups_the_memory_of_the_machine_counts(tmp_path):
    assert detected_memory_mib(tmp_path / "none", tmp_path) > 100


async def test_too_large_a_batch_is_refused_for_good(tmp_path):
    async with local_engine(tmp_path, cores=2, memory_mib=1000) as engine:
        outcome = await engine.gateway.queue_batch(batch_of("true", "true", resources=TaskResources(1, cores=3)))
        (refusal,) = outcome.refusals
        assert (refusal.task_ids, refusal.permanent) == ([1, 2], True)
        assert refusal.reason == "asks for 3 cores, and this machine has 2"
        await engine.run("true", first_id=3, resources=TaskResources(1, memory_mib=1000))
        assert engine.record.ended_ids() == {3}


async def test_real_tasks_never_use_more_than_there_is(tmp_path):
    script = tmp_path / "count.sh"
    script.write_text(
        f"cd {tmp_path}; for i in $(seq $1); do touch run.$$.$i; done; ls run.* | wc -l >> seen; sleep 0.02;"
        "rm run.$$.*\n"
    )
    async with local_engine(tmp_path, cores=3) as engine:
        for number, cores in enumerate((1, 3, 2, 1, 2), start=0):
            resources = TaskResources(1, cores=cores)
            await engine.queue(*[f"sh {script} {cores}"] * 6, first_id=1 + 6 * number, resources=resources)
        await engine.record.ended(*range(1, 31))
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 30
    assert max(seen) == 3


async def test_ten_thousand_tasks_may_wait(tmp_path):
    async with local_engine(tmp_path, cores=1) as engine:
        await engine.queue("sleep 0.1")
        for start in range(1000, 11_000, 500):
            await engine.queue(*["sleep 100"] * 500, first_id=start)
        await engine.record.ended(1)
        await engine.cancel(*range(1000, 11_000))
        await engine.run("true", first_id=2)
        assert engine.record.end_of(2) == (TaskStatus.DONE, "")
