"""Every status x every status, from a table written out of DESIGN 4.1 by hand; and the fences around attempts."""

import pytest

from swarmd.core.errors import InvalidInputError
from swarmd.core.state import SwarmState
from swarmd.core.status import Code
from tests.core.builders import (
    a_swarm,
    a_task,
    accept,
    code_of,
    dump,
    is_ready,
    only,
    several,
    status_of,
    taken,
    tell,
    well,
)

NEWS = [*"GQIORDFEA"]

# V is RESERVED: the batch is being queued. "=": it stands there already. "-": stale, ignored and said so.
EXPECTED = {
    # news: G  Q  I  O  R  D  F  E  A
    "G": "=  Q  I  O  R  D  F  -  -",
    "V": "G  Q  I  O  R  D  F  G  G",
    "Q": "G  =  I  O  R  D  F  G  G",
    "I": "G  -  =  O  R  D  F  G  G",
    "O": "G  -  -  =  R  D  F  G  G",
    "R": "G  -  -  -  =  D  F  G  G",
    "D": "-  -  -  -  -  =  -  -  -",
    "F": "-  -  -  -  -  -  =  -  -",
    "X": "-  -  -  -  -  -  -  -  -",
}
PAIRS = [(start, news, end) for start, row in EXPECTED.items() for news, end in zip(NEWS, row.split(), strict=True)]
ACTIVE = "VQIOR"


def a_task_that_stands(status: str, *, max_attempts: int = 3) -> SwarmState:
    """Task 1 stands there (in attempt 1 where it was queued), and task 2 waits for it."""
    state = a_swarm([a_task(1, max_attempts=max_attempts), a_task(2, 1)])
    if status in "QIORDF":
        accept(state, taken(state))
        if status != "Q":
            tell(state, status, 1)
    elif status == "V":
        taken(state)
    elif status == "X":
        state.cancel(only(1))
    assert code_of(state, 1) is (Code.RESERVED if status == "V" else Code[state.task(1).status.name])
    assert status_of(state, 1) == ("G" if status == "V" else status)
    return state


@pytest.mark.parametrize(("start", "news", "end"), PAIRS)
def test_news_leads_from_every_status_where_the_design_says(start, news, end):
    state = a_task_that_stands(start)
    change = tell(state, news, 1)
    if end in "=-":
        assert code_of(state, 1) is code_of(a_task_that_stands(start), 1)
        assert change.changed_count == 0
    else:
        assert status_of(state, 1) == end
        assert change.changed_count == 1
    assert bool(change.ignored) == (end == "-")
    assert well(state)


@pytest.mark.parametrize(("start", "news", "end"), [pair for pair in PAIRS if pair[2] in "=-"])
def test_news_that_changes_nothing_makes_no_revision(start, news, end):
    state = a_task_that_stands(start)
    before = dump(state)
    change = tell(state, news, 1)
    assert change.is_empty
    assert dump(state) == before


@pytest.mark.parametrize(("start", "news", "end"), [pair for pair in PAIRS if pair[2] == "-"])
def test_stale_news_is_named_with_its_status_and_task(start, news, end):
    change = tell(a_task_that_stands(start), news, 1)
    (ignored,) = change.ignored
    assert (ignored.status, ignored.task_ids.tolist()) == (news, [1])
    is_final, idle = start in "DFX", start == "G"
    assert ignored.effect.name == ("STALE_FINAL" if is_final else "STALE_NOT_QUEUED" if idle else "STALE_FURTHER")


@pytest.mark.parametrize("start", EXPECTED)
def test_cancelled_cannot_be_told_by_news(start):
    state = a_task_that_stands(start)
    before = dump(state)
    with pytest.raises(InvalidInputError) as caught:
        tell(state, "X", 1)
    assert (caught.value.reason, caught.value.field) == ("INVALID_STATUS", "update.task_statuses[0].status")
    assert dump(state) == before


@pytest.mark.parametrize(("start", "news", "end"), PAIRS)
def test_only_done_frees_the_downstream(start, news, end):
    state = a_task_that_stands(start)
    tell(state, news, 1)
    assert is_ready(state, 2) == (status_of(state, 1) == "D")


@pytest.mark.parametrize(("start", "news", "end"), PAIRS)
def test_the_active_are_exactly_those_on_their_way(start, news, end):
    state = a_task_that_stands(start)
    tell(state, news, 1)
    now = start if end in "=-" else end
    assert state.active_count == (now in ACTIVE)


@pytest.mark.parametrize(("start", "news", "end"), PAIRS)
def test_a_fenced_repeat_is_harmless(start, news, end):
    state = a_task_that_stands(start)
    attempts = [max(1, state.task(1).attempt)]
    tell(state, news, 1, attempts=attempts)
    before = dump(state)
    change = tell(state, news, 1, attempts=attempts)
    assert change.is_empty
    assert dump(state) == before


@pytest.mark.parametrize("start", ACTIVE)
@pytest.mark.parametrize("news", "EA")
def test_the_last_attempt_that_fails_is_fatal(start, news):
    state = a_task_that_stands(start, max_attempts=1)
    change = tell(state, news, 1, reason="broke")
    assert status_of(state, 1) == "F"
    assert [str(group.status) for group in change.task_statuses] == [news, "F"]
    assert state.task(1).reason == "broke"


@pytest.mark.parametrize("start", ACTIVE)
def test_a_failed_attempt_with_more_to_come_is_ready_again(start):
    state = a_task_that_stands(start)
    change = tell(state, "E", 1)
    assert is_ready(state, 1)
    assert [str(group.status) for group in change.task_statuses] == ["E", "G"]
    assert (change.newly_ready_count, state.task(1).failed_attempts) == (1, 1)


@pytest.mark.parametrize("news", "QIOR")
def test_a_task_that_somebody_else_queued_leaves_its_lane_and_begins_an_attempt(news):
    state = a_swarm(1)
    tell(state, news, 1)
    assert (state.ready_count, state.task(1).attempt, state.take_batch()) == (0, 1, None)


def test_a_task_may_be_told_queued_before_its_upstreams_are_done():
    state = a_swarm([a_task(1), a_task(2, 1)])
    tell(state, "R", 2)
    tell(state, "D", 1)
    assert not is_ready(state, 2)
    assert status_of(state, 2) == "R"
    assert well(state)


# -- fences -----------------------------------------------------


def in_second_attempt(status: str = "Q") -> SwarmState:
    """Task 1 failed once and stands there in attempt 2."""
    state = a_task_that_stands("R")
    tell(state, "E", 1)
    if status == "V":
        taken(state)
    elif status != "G":
        accept(state, taken(state), status)
    return state


@pytest.mark.parametrize("news", NEWS)
@pytest.mark.parametrize("start", ["V", "Q", "R"])
def test_news_of_an_earlier_attempt_is_stale(start, news):
    state = in_second_attempt(start)
    before = dump(state)
    change = tell(state, news, 1, attempts=[1])
    assert dump(state) == before
    if not (start == "R" and news in "QIO"):  # which is stale twice over
        assert [each.effect.name for each in change.ignored] == ["STALE_ATTEMPT"]


@pytest.mark.parametrize("news", "QIORDF")
def test_news_of_an_attempt_that_is_over_is_stale(news):
    state = in_second_attempt("G")
    assert state.task(1).attempt == 1
    change = tell(state, news, 1, attempts=[1])
    assert [each.effect.name for each in change.ignored] == ["STALE_ATTEMPT"]
    assert is_ready(state, 1)


def test_news_of_the_attempt_of_a_batch_that_was_given_back_is_stale():
    state = a_swarm(1)
    batch = taken(state)
    state.give_back(batch)
    change = tell(state, "R", 1, attempts=[1])
    assert [each.effect.name for each in change.ignored] == ["STALE_ATTEMPT"]
    assert taken(state).attempts.tolist() == [2]


@pytest.mark.parametrize("news", "QIOR")
def test_an_attempt_of_zero_is_not_fenced(news):
    state = in_second_attempt("G")
    tell(state, news, 1, attempts=[0])
    assert (status_of(state, 1), state.task(1).attempt) == (news, 2)


@pytest.mark.parametrize("start", ["G", "V", "Q", "R"])
@pytest.mark.parametrize("news", "QIORDF")
def test_an_attempt_that_is_ahead_of_ours_is_taken_over(start, news):
    state = in_second_attempt(start)
    change = tell(state, news, 1, attempts=[7])
    assert (status_of(state, 1), state.task(1).attempt, change.ignored) == (news, 7, [])
    assert change.changed_count == 1
    assert well(state)


@pytest.mark.parametrize("news", "EA")
def test_a_failed_attempt_that_is_ahead_of_ours_is_taken_over(news):
    state = in_second_attempt("Q")
    tell(state, news, 1, attempts=[7])
    assert taken(state).attempts.tolist() == [8]


@pytest.mark.parametrize("news", "DF")
def test_after_a_reset_no_attempt_is_used_again(news):
    state = a_swarm(1)
    tell(state, news, 1, attempts=[7])
    state.reset(only(1))
    assert taken(state).attempts.tolist() == [8]
    tell(state, "D", 1, attempts=[7])
    assert status_of(state, 1) == "G"


@pytest.mark.parametrize("news", "IOR")
def test_news_may_overtake_the_answer_to_the_call_that_queued_the_batch(news):
    state = a_swarm(1)
    batch = taken(state)
    tell(state, news, 1, attempts=[1])
    change = accept(state, batch)
    assert status_of(state, 1) == news
    assert [each.effect.name for each in change.ignored] == ["STALE_FURTHER"]
    assert well(state)


@pytest.mark.parametrize(("news", "end"), [("D", "D"), ("F", "F"), ("E", "G"), ("A", "G"), ("G", "G")])
def test_an_attempt_that_ends_before_the_answer_makes_the_answer_stale(news, end):
    state = a_swarm(1)
    batch = taken(state)
    tell(state, news, 1, attempts=[1])
    change = accept(state, batch)
    assert (status_of(state, 1), change.changed_count, len(change.ignored)) == (end, 0, 1)
    assert state.active_count == 0


def test_of_several_attempts_told_of_one_task_the_highest_counts():
    state = in_second_attempt("Q")
    state.apply_update(several(("R", [1, 1, 1], [1, 3, 2])))
    assert (status_of(state, 1), state.task(1).attempt) == ("R", 3)


def test_failing_and_being_done_in_one_message_are_folded_in_order():
    state = a_task_that_stands("R")
    change = state.apply_update(several(("E", [1], [1]), ("D", [1], [1])))
    assert (status_of(state, 1), [each.effect.name for each in change.ignored]) == ("G", ["STALE_ATTEMPT"])
    other = a_task_that_stands("R")
    other.apply_update(several(("E", [1], None), ("D", [1], None)))
    assert status_of(other, 1) == "D"
    assert is_ready(other, 2)
    assert well(other)


def test_a_later_group_goes_on_where_the_earlier_one_led():
    state = a_task_that_stands("Q")
    state.apply_update(several(("R", [1], None), ("D", [1], None), ("R", [1], None)))
    assert status_of(state, 1) == "D"
