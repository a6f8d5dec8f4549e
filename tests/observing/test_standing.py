"""How swarms stand, in numbers: right, complete and bounded."""

from dataclasses import dataclass, field

import pytest

from swarmd.core.state import SwarmState
from swarmd.observing.standing import REST, SHOWN_ARRAYS, SHOWN_SWARMS, STATES, SwarmRow, overview
from tests.core.builders import a_swarm, a_task, news


@dataclass
class Watching:
    watchers: int = 0


@dataclass
class Journal:
    trouble: Exception | None = None


@dataclass
class Hosted:
    """A swarm as the daemon has it, as far as it is looked at."""

    swarm_id: str
    state: SwarmState
    feed: Watching = field(default_factory=Watching)
    journal: Journal = field(default_factory=Journal)


def row_of(state: SwarmState) -> SwarmRow:
    (row,) = overview([Hosted("s", state)], 0).swarms
    return row


def tasks(row) -> dict[str, int]:
    return dict(zip(STATES, row.tasks, strict=True))


def test_every_task_is_in_one_state_also_in_the_middle_of_everything():
    state = a_swarm([a_task(n) for n in range(1, 8)] + [a_task(8, 1), a_task(9, 2)], max_concurrently_running=4)
    assert tasks(row_of(state)) == {"waiting": 2, "ready": 7, "active": 0, "done": 0, "failed": 0, "cancelled": 0}
    batch = state.take_batch()
    assert batch is not None
    assert tasks(row_of(state)) == {"waiting": 2, "ready": 3, "active": 4, "done": 0, "failed": 0, "cancelled": 0}
    state.settle(batch)
    state.apply_update(news("D", [1, 2]))
    state.apply_update(news("F", [3]))
    row = row_of(state)
    assert tasks(row) == {"waiting": 0, "ready": 5, "active": 1, "done": 2, "failed": 1, "cancelled": 0}
    assert (row.capacity, row.limit) == (3, 4)
    assert row.arrays[0].tasks == row.tasks


def test_batches_are_open_or_in_doubt():
    state = a_swarm(4, arrays={1: None})
    first, second = state.take_batch(2), state.take_batch(2)
    assert first is not None
    assert second is not None
    state.doubt(first, "who knows")
    row = row_of(state)
    assert (row.batches_open, row.batches_in_doubt) == (1, 1)


def test_room_of_an_array_is_what_its_own_limit_leaves():
    state = a_swarm([a_task(1), a_task(2, array=2), a_task(3, array=2)], arrays={1: None, 2: 5})
    state.apply_update(news("R", [2]))
    assert [each.room for each in row_of(state).arrays] == [float("inf"), 4.0]


def test_of_many_arrays_the_largest_are_shown_and_the_rest_is_summed():
    count = SHOWN_ARRAYS + 30
    all_tasks = [a_task(1000 * array + n, array=array) for array in range(1, count + 1) for n in range(array % 7 + 1)]
    state = a_swarm(all_tasks, arrays=count)
    state.apply_update(news("D", [1000 * array for array in range(1, count + 1)]))
    row = row_of(state)
    assert len(row.arrays) == SHOWN_ARRAYS + 1
    *shown, rest = row.arrays
    assert (rest.array_id, rest.name) == ("", REST)
    assert tuple(map(sum, zip(*(each.tasks for each in row.arrays), strict=True))) == row.tasks
    most_of_the_rest = max(
        array % 7 + 1 for array in range(1, count + 1) if str(array) not in {a.array_id for a in shown}
    )
    assert min(sum(each.tasks) for each in shown) >= most_of_the_rest


def test_of_many_swarms_those_that_go_on_are_shown_and_the_rest_is_summed():
    hosted = [Hosted(f"s{n}", a_swarm(2), Watching(1)) for n in range(SHOWN_SWARMS + 20)]
    for each in hosted[10:]:
        each.state.apply_update(news("D", [1, 2]))
    seen = overview(hosted, set_aside=3)
    assert len(seen.swarms) == SHOWN_SWARMS + 1
    assert {row.swarm_id for row in seen.swarms[:10]} == {f"s{n}" for n in range(10)}
    assert seen.swarms[10].swarm_id == hosted[-1].swarm_id, "of those that are over the latest"
    rest = seen.swarms[-1]
    assert rest.swarm_id == REST
    assert tasks(rest)["done"] == 40
    assert rest.watchers == 20
    assert rest.arrays == ()
    assert seen.outcomes == {"unfinished": 10, "done": SHOWN_SWARMS + 10, "error": 0, "set_aside": 3}


def test_swarms_that_cannot_be_written_down_are_counted():
    hosted = [Hosted("a", a_swarm(1)), Hosted("b", a_swarm(1), journal=Journal(RuntimeError("full")))]
    assert overview(hosted, 0).in_trouble == 1


@pytest.mark.parametrize("tasks_of_it", [0, 100_000])
def test_the_work_does_not_grow_with_the_tasks(tasks_of_it, monkeypatch):
    """Nothing that is as long as there are tasks is even touched."""
    state = a_swarm(tasks_of_it)

    class Untouched:
        def __getattr__(self, name):
            raise AssertionError(f"{name} of a column was looked at")

    for column in ("status", "attempt", "task_id", "names", "commands"):
        monkeypatch.setattr(state.table, column, Untouched())
    assert sum(row_of(state).tasks) == tasks_of_it
