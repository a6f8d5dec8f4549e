"""Resources that grow after an attempt ran out of them: within what queues can hold, or in another queue."""

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.core import queues
from swarmd.core.errors import InvalidInputError, LimitExceededError, SwarmdError
from swarmd.core.events import Created, SwarmSettings, Updated
from swarmd.core.explain import Explanation
from swarmd.core.model import MAX_QUEUES, QueueLimits, TaskResources
from swarmd.core.queues import Queues, adjusted, holds
from swarmd.core.state import SwarmState
from swarmd.core.swarm import Swarm
from swarmd.core.update import StateUpdate
from tests.core.builders import a_swarm, a_task, dump, news, only, queue_all, taken, tell

ASKED = TaskResources(1, "c", "all", cores=2, memory_mib=100, runtime_seconds=60.0)
DOUBLE = {"cores": 1.0, "memory": 1.0, "runtime": 1.0}


def known(*told: QueueLimits) -> Queues:
    there = Queues()
    there.tell(told)
    return there


def limits(queue: str = "all", cluster: str = "c", **most: float) -> QueueLimits:
    return QueueLimits(cluster, queue, **most)  # type: ignore[arg-type]


def grown(told: Queues, *fallbacks: str, **asked: object) -> tuple[str, int, int, float]:
    before = replace(ASKED, fallback_queues=fallbacks, **asked)  # type: ignore[arg-type]
    after = adjusted(before, DOUBLE, told)
    return after.queue, after.cores, after.memory_mib, after.runtime_seconds


# -- the rule ----------------------------------------------------------------------------------------------------------


def test_what_the_queue_can_hold_grows_as_its_scales_say():
    assert grown(Queues()) == ("all", 4, 200, 120)
    assert grown(known(limits(cores=4, memory_mib=200, runtime_seconds=120.0))) == ("all", 4, 200, 120)


@pytest.mark.parametrize(
    ("most", "after"),
    [
        ({"cores": 3}, ("all", 3, 200, 120)),
        ({"memory_mib": 150}, ("all", 4, 150, 120)),
        ({"runtime_seconds": 61.5}, ("all", 4, 200, 61.5)),
        ({"cores": 3, "memory_mib": 150, "runtime_seconds": 61.5}, ("all", 3, 150, 61.5)),
    ],
)
def test_what_no_queue_can_hold_stops_at_what_its_own_allows(most, after):
    assert grown(known(limits(**most))) == after
    assert grown(known(limits(**most), limits("long", cores=1)), "long") == after


def test_no_cap_is_below_what_was_asked_for_before():
    assert grown(known(limits(cores=1, memory_mib=50, runtime_seconds=1.0))) == ("all", 2, 100, 60)


@pytest.mark.parametrize(
    ("told", "queue"),
    [
        ([limits("long", memory_mib=200), limits("big", memory_mib=900)], "long"),
        ([limits("long", memory_mib=199), limits("big", memory_mib=900)], "big"),
        ([limits("long", memory_mib=199)], "big"),
        ([], "long"),
        ([limits("long", memory_mib=900, runtime_seconds=119.0), limits("big", cores=3)], "all"),
    ],
)
def test_the_first_fallback_queue_that_can_hold_all_of_it_is_taken(told, queue):
    after = grown(known(limits(memory_mib=150), *told), "long", "big")
    assert after == (queue, 4, 150 if queue == "all" else 200, 120)


def test_a_queue_of_another_cluster_has_limits_of_its_own():
    assert grown(known(limits(cluster="d", memory_mib=150))) == ("all", 4, 200, 120)
    assert grown(known(limits(memory_mib=150), limits("long", "d", memory_mib=1)), "long")[0] == "long"


def test_the_default_queue_has_limits_like_any_other():
    assert grown(known(limits("", memory_mib=150)), queue="") == ("", 4, 150, 120)
    assert grown(known(limits(memory_mib=150)), "")[0] == ""


def test_resources_that_are_not_asked_for_fit_everywhere_and_do_not_grow():
    told = known(limits(memory_mib=1, runtime_seconds=1.0))
    assert grown(told, memory_mib=0, runtime_seconds=0.0) == ("all", 4, 0, 0)


amounts = st.integers(1, 1000)
told_limits = st.builds(
    QueueLimits,
    st.just("c"),
    st.sampled_from(["all", "long", "big", ""]),
    st.none() | amounts,
    st.none() | amounts,
    st.none() | st.floats(0.1, 1000),
)


@given(
    st.builds(
        TaskResources,
        st.just(1),
        st.just("c"),
        st.sampled_from(["all", ""]),
        amounts,
        st.integers(0, 1000),
        st.floats(0, 1000),
        fallback_queues=st.lists(st.sampled_from(["long", "big", ""]), max_size=3).map(tuple),
    ),
    st.dictionaries(st.sampled_from(["cores", "memory", "runtime"]), st.floats(0, 3), min_size=1),
    st.lists(told_limits, max_size=5),
)
def test_nothing_shrinks_and_nothing_leaves_a_queue_but_for_one_that_can_hold_it(before, scales, told):
    there = known(*told)
    after, free = adjusted(before, scales, there), adjusted(before, scales, Queues())
    for name in ("cores", "memory_mib", "runtime_seconds"):
        assert getattr(before, name) <= getattr(after, name) <= getattr(free, name)
    if after.queue != before.queue:
        assert after.queue in before.fallback_queues
        assert holds(there.of(after), after)
        assert not holds(there.of(before), replace(free, queue=before.queue))
    assert adjusted(before, scales, there) == after


# -- in a swarm --------------------------------------------------------------------------------------------------------


def a_growing_swarm(*fallbacks: str, tasks: int = 1, scale: float = 1.0) -> SwarmState:
    """Tasks that ask for 100 MiB of the queue `all` at first and may run out of it ten times."""
    asked = TaskResources(1, "c", "all", memory_mib=100, fallback_queues=fallbacks)
    scales = {"memory": scale} if scale else {}
    each = [a_task(number, scales=scales, max_attempts=10) for number in range(1, tasks + 1)]
    return a_swarm(each, resources=[asked])


def can_hold(state: SwarmState, memory_mib: int | None, queue: str = "all"):
    return state.apply_update(StateUpdate(queue_limits=[QueueLimits("c", queue, memory_mib=memory_mib)]))


def run_out(state: SwarmState, *ids: int) -> TaskResources:
    """They ran out of memory once; what the next batch asks for."""
    queue_all(state, "R")
    tell(state, "A", *(ids or (1,)))
    batch = taken(state)
    state.give_back(batch)
    return batch.task_resources


def test_resources_stop_at_the_limit_and_go_on_when_it_is_raised():
    state = a_growing_swarm()
    can_hold(state, 300)
    assert [run_out(state).memory_mib for _ in range(4)] == [200, 300, 300, 300]
    can_hold(state, 500)
    assert [run_out(state).memory_mib for _ in range(2)] == [500, 500]
    can_hold(state, None)
    assert run_out(state).memory_mib == 1000


def test_an_attempt_that_can_get_no_more_goes_again_with_the_same_resources():
    state = a_growing_swarm()
    can_hold(state, 100)
    assert run_out(state).task_resources_id == 1
    assert len(state.table.resources) == 1
    for _ in range(9):
        queue_all(state, "R")
        tell(state, "A", 1)
    assert state.task(1).status == "F"


def test_a_task_moves_on_from_queue_to_queue_as_it_grows():
    state = a_growing_swarm("long", "big")
    can_hold(state, 150)
    can_hold(state, 300, "long")
    asked = [run_out(state) for _ in range(3)]
    assert [(each.queue, each.memory_mib) for each in asked] == [("long", 200), ("big", 400), ("big", 800)]


def test_what_was_worked_out_before_is_not_used_when_limits_have_changed():
    state = a_growing_swarm(tasks=3)
    assert run_out(state, 1).memory_mib == 200
    can_hold(state, 150)
    assert run_out(state, 2).memory_mib == 150
    can_hold(state, 250)
    assert run_out(state, 3).memory_mib == 200
    assert {state.task(each).task_resources_id for each in (1, 3)} == {(1 << 40) + 1}
    assert state.task(2).task_resources_id == (1 << 40) + 2


def test_news_of_limits_counts_before_the_news_in_the_same_update():
    state = a_growing_swarm()
    queue_all(state, "R")
    update = news("A", [1])
    update.queue_limits.append(QueueLimits("c", "all", memory_mib=120))
    state.apply_update(update)
    assert taken(state).task_resources.memory_mib == 120


def test_tasks_without_scales_stay_where_they_are():
    state = a_growing_swarm("long", scale=0.0)
    can_hold(state, 50)
    assert run_out(state) == state.table.resources[0]


def test_limits_that_are_new_are_a_change_and_the_same_again_are_none():
    state = a_growing_swarm()
    change = can_hold(state, 150)
    assert (change.settings_changed, change.revision) == (True, 2)
    again = can_hold(state, 150)
    assert (again.is_empty, again.revision) == (True, 2)
    assert can_hold(state, None).revision == 3
    assert list(state.table.queues.known.values()) == [QueueLimits("c", "all")]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        ({"cores": 0}, "INVALID_VALUE", "cores"),
        ({"cores": -1}, "INVALID_VALUE", "cores"),
        ({"cores": 1 << 31}, "INVALID_VALUE", "cores"),
        ({"memory_mib": 0}, "INVALID_VALUE", "memory_mib"),
        ({"runtime_seconds": 0.0}, "INVALID_VALUE", "runtime"),
        ({"runtime_seconds": -1.0}, "INVALID_VALUE", "runtime"),
        ({"runtime_seconds": 1e-10}, "INVALID_VALUE", "runtime"),
        ({"runtime_seconds": nan}, "INVALID_VALUE", "runtime"),
        ({"runtime_seconds": inf}, "INVALID_VALUE", "runtime"),
        ({"runtime_seconds": 4e11}, "INVALID_VALUE", "runtime"),
        ({"cluster": "ä" * 129}, "TEXT_TOO_LONG", "cluster"),
        ({"queue": "q" * 257}, "TEXT_TOO_LONG", "queue"),
    ],
)
def test_limits_that_are_none_are_named_and_change_nothing(wrong, reason, field):
    state = a_growing_swarm()
    before = dump(state)
    update = StateUpdate({1: "D"}, queue_limits=[limits(), replace(limits(), **wrong)])  # type: ignore[arg-type]
    with pytest.raises(SwarmdError) as caught:
        state.apply_update(update)
    assert (caught.value.reason, caught.value.field) == (reason, f"update.queue_limits[1].{field}")
    assert isinstance(caught.value, (InvalidInputError, LimitExceededError))
    assert (dump(state), state.table.queues.known) == (before, {})


def test_an_update_tells_of_a_thousand_queues_at_most():
    state = a_growing_swarm()
    state.apply_update(StateUpdate(queue_limits=[limits(str(number)) for number in range(MAX_QUEUES)]))
    with pytest.raises(LimitExceededError, match=r"^update.queue_limits: 1001 queues are too many; .* at most 1000 "):
        state.apply_update(StateUpdate(queue_limits=[limits()] * (MAX_QUEUES + 1)))


def test_a_swarm_keeps_the_limits_of_a_thousand_queues(monkeypatch):
    monkeypatch.setattr(queues, "MAX_QUEUES", 3)
    swarm = Swarm(Created(SwarmSettings("s"), "t"), 0.0)
    swarm.apply(Updated(StateUpdate(queue_limits=[limits(each) for each in "abc"])), 0.0)
    swarm.check(Updated(StateUpdate(queue_limits=[limits("a", cores=5)])))
    with pytest.raises(LimitExceededError) as caught:
        swarm.check(Updated(StateUpdate(queue_limits=[limits("d")])))
    assert (caught.value.reason, caught.value.field) == ("TOO_MANY_QUEUES", "update.queue_limits")


def test_of_updates_that_came_side_by_side_and_are_too_many_together_the_last_are_kept(monkeypatch):
    monkeypatch.setattr(queues, "MAX_QUEUES", 3)
    swarm = Swarm(Created(SwarmSettings("s"), "t"), 0.0)
    checked = [swarm.check(Updated(StateUpdate(queue_limits=[limits(each), limits(each * 2)]))) for each in "ab"]
    for event in checked:
        swarm.apply(event, 0.0)
    assert [queue for _, queue in swarm.state.table.queues.known] == ["aa", "b", "bb"]


# -- what a user sees --------------------------------------------------------------------------------------------------


def asked_for(explanation: Explanation) -> list[tuple[int, str, str, int] | None]:
    pairs = zip(explanation.attempts, explanation.resources, strict=True)
    return [
        None if each is None else (record.attempt, str(record.status), each.queue, each.memory_mib)
        for record, each in pairs
    ]


@pytest.mark.parametrize("bulk_from", [1, 10_000])
def test_the_history_says_what_each_attempt_asked_for(bulk_from, monkeypatch):
    monkeypatch.setattr("swarmd.core.history.BULK_FROM", bulk_from)
    state = a_growing_swarm("long")
    can_hold(state, 150)
    for _ in range(2):
        queue_all(state, "R")
        tell(state, "A", 1)
    queue_all(state, "R")
    assert asked_for(state.explain(1)) == [(1, "A", "all", 100), (2, "A", "long", 200), (3, "R", "long", 400)]
    tell(state, "D", 1)
    state.reset(only(1))
    assert asked_for(state.explain(1))[-1] == (3, "D", "long", 400)


def test_a_task_that_is_cancelled_while_it_waits_has_asked_for_nothing_more():
    state = a_growing_swarm()
    run_out(state)
    state.cancel(only(1))
    assert asked_for(state.explain(1)) == [(1, "A", "all", 100), None]


def test_a_task_whose_resources_are_capped_is_told_so():
    state = a_growing_swarm()
    can_hold(state, 1500)
    assert "capped" not in state.explain(1).summary
    run_out(state)
    assert "capped" not in state.explain(1).summary, "it gets what its scales say"
    for _ in range(3):
        run_out(state)
    caps = "Its resources are capped by queue 'all' of cluster 'c': an attempt asks for at most 1,500 MiB of memory."
    told = state.explain(1)
    assert told.summary.endswith(caps)
    assert told.obstacles[0].message == told.summary
    assert state.explain(1, autopilot=True).summary.endswith(caps)
    tell(state, "D", 1)
    assert "capped" not in state.explain(1).summary


@pytest.mark.parametrize(
    ("fallback_queues", "words"),
    [
        (("long",), " Its fallback queue 'long' cannot hold what it would need."),
        (("long", "all", "wide"), " None of its fallback queues 'long', 'wide' can hold what it would need."),
        (("all",), ""),
    ],
)
def test_that_no_fallback_queue_can_hold_it_is_said(fallback_queues, words):
    asked = TaskResources(1, queue="all", memory_mib=100, fallback_queues=fallback_queues)
    state = a_swarm([a_task(1, scales=DOUBLE)], resources=[asked])
    limits = [QueueLimits("", queue, memory_mib=150) for queue in ("all", "long", "wide")]
    state.apply_update(StateUpdate(queue_limits=limits))
    run_out(state)
    most = "Its resources are capped by queue 'all': an attempt asks for at most 150 MiB of memory."
    assert state.explain(1).summary.endswith(most + words)


def test_every_resource_that_is_capped_is_named():
    asked = TaskResources(1, cores=2, memory_mib=100, runtime_seconds=60.0)
    state = a_swarm([a_task(1, scales=DOUBLE)], resources=[asked])
    most = QueueLimits("", "", cores=3, memory_mib=150, runtime_seconds=90.5)
    state.apply_update(StateUpdate(queue_limits=[most]))
    queue_all(state, "R")
    tell(state, "A", 1)
    assert state.explain(1).summary.endswith(
        "Its resources are capped by the default queue: "
        "an attempt asks for at most 3 cores and 150 MiB of memory and 90.5 s of runtime."
    )
