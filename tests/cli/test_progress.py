"""Rates, the choice of arrays, and how progress is drawn."""

import io
from itertools import zip_longest

import pytest
from rich.console import Console

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_pb2
from swarmd.cli.run.display import PlainDisplay, bar, plain_line, render
from swarmd.cli.run.progress import MOST_ARRAYS, Progress, Tally, View, most_active


def counts(total: int, done: int = 0, running: int = 0, failed: int = 0) -> state_pb2.TaskCounts:
    return state_pb2.TaskCounts(
        total=total,
        done=done,
        running=running,
        active=running,
        error_fatal=failed,
        registered=total - done - running - failed,
    )


def swarm_of(**arrays: tuple[int, ...]) -> swarm_pb2.Swarm:
    messages = [array_pb2.Array(array_id=1, name=name, task_counts=counts(*row)) for name, row in arrays.items()]
    sums = [sum(column) for column in zip_longest(*arrays.values(), fillvalue=0)]
    return swarm_pb2.Swarm(
        swarm_id="study-1", arrays=messages, task_counts=counts(*sums), outcome=swarm_pb2.SWARM_OUTCOME_UNFINISHED
    )


def tally_of(
    name: str = "a", total: int = 10, waiting: int = 0, running: int = 0, done: int = 0, failed: int = 0
) -> Tally:
    return Tally(name, total, waiting, running, done, failed, 0)


def drawn(view: View, width: int = 100) -> str:
    shown = io.StringIO()
    Console(file=shown, width=width, highlight=False).print(render(view, width))
    return shown.getvalue()


def test_rate_and_time_left_come_from_the_last_seconds():
    progress = Progress("study", 100.0)
    progress.view(swarm_of(a=(1000, 500)), 110.0)
    progress.view(swarm_of(a=(1000, 500)), 120.0)
    view = progress.view(swarm_of(a=(1000, 600)), 130.0)
    assert view.tasks_per_second == pytest.approx(5.0)  # 100 tasks since 20 seconds ago, not 600 since 30
    assert view.seconds_left == pytest.approx(80)


def test_nothing_is_promised_while_all_that_is_left_waits():
    progress = Progress("study", 100.0)
    progress.view(swarm_of(a=(10, 0, 8)), 101.0)
    assert progress.view(swarm_of(a=(10, 8)), 103.0).seconds_left is not None
    later = progress.view(swarm_of(a=(10, 8)), 110.0)
    assert later.tasks_per_second > 0
    assert later.seconds_left is None
    assert progress.view(swarm_of(a=(10, 8, 1)), 111.0).seconds_left is not None


def test_nothing_is_promised_before_anything_ended():
    view = Progress("study", 0.0).view(swarm_of(a=(10, 0, 2)), 5.0)
    assert (view.tasks_per_second, view.seconds_left) == (0, None)
    assert plain_line(view) == "0 of 10 done, 2 run, 8 wait"


def test_few_arrays_are_all_shown():
    arrays = [tally_of(str(number)) for number in range(MOST_ARRAYS)]
    assert most_active(arrays) == (tuple(arrays), 0)


def test_of_many_arrays_the_active_and_the_failed_ones_are_shown_in_their_order():
    arrays = [tally_of(str(number), done=10) for number in range(10_000)]
    arrays[9000] = tally_of("runs", running=1, done=3)
    arrays[17] = tally_of("failed", failed=1, done=9)
    arrays[500] = tally_of("begun", waiting=4, done=6)
    shown, hidden = most_active(arrays, 3)
    assert [array.name for array in shown] == ["failed", "begun", "runs"]
    assert hidden == 9_997


def test_a_bar_has_its_width_and_shows_the_smallest_part():
    line = bar(tally_of(total=10_000, waiting=4_999, running=1, done=4_999, failed=1), 20)
    assert line.plain == "━" * 9 + "━" + "╍" + "─" * 9
    assert bar(tally_of(total=3, done=3), 20).plain == "━" * 20


def test_the_table_shows_every_array_the_sum_and_the_pace():
    progress = Progress("study [x]", 0.0)
    shown = drawn(progress.view(swarm_of(prepare=(6, 6), simulate=(216, 54, 2, 1)), 10.0))
    assert "study [x]  study-1  0:10" in shown
    assert "prepare" in shown
    assert "100%" in shown
    assert "all" in shown
    assert "6.1 tasks/s  ·  about 26 s left" in shown


def test_what_stands_in_the_way_is_told():
    swarm = swarm_of(a=(10, 0))
    swarm.held_reason = "the swarm is paused"
    assert "the swarm is paused" in drawn(Progress("study", 0.0).view(swarm, 1.0))


@pytest.mark.parametrize("width", [40, 60, 80, 250])
def test_no_line_is_wider_than_the_terminal(width):
    view = Progress("study", 0.0).view(swarm_of(**{"a" * 100: (1_000_000, 500_000, 1000, 7)}), 3.0)
    assert max(map(len, drawn(view, width).splitlines())) <= width


def test_plain_lines_come_seldom_and_only_with_news(capsys):
    display, progress = PlainDisplay(every=5.0), Progress("study", 0.0)
    for second in range(20):
        display.show(progress.view(swarm_of(a=(10, min(second, 7))), float(second)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("swarmd: 0:01  1 of 10 done, 0 run, 9 wait")
    assert len(lines) == 4
