"""Values as people read them."""

import pytest

from swarmd.cli import text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (42.9, "0:42"), (725, "12:05"), (11_045, "3:04:05"), (183_845, "2d 03:04:05")]
)
def test_elapsed_time(seconds, shown):
    assert text.elapsed(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "1 s"), (42, "42 s"), (150, "2 min"), (3600, "1 h"), (4800, "1 h 20 min"), (90_000, "1 d 1 h")],
)
def test_time_left_is_no_more_exact_than_it_deserves(seconds, shown):
    assert text.roughly(seconds) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"), [(1240.4, "1,240 tasks/s"), (3.21, "3.2 tasks/s"), (0.1, "6.0 tasks/min")]
)
def test_rates(per_second, shown):
    assert text.rate(per_second) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.3, "0.3 s"),
        (60, "1 min"),
        (90.5, "1 min 30.5 s"),
        (59.9999, "1 min"),
        (5400, "1 h 30 min"),
        (129_600, "1 d 12 h"),
        (315_576_000_000, "3,652,500 d"),
    ],
)
def test_lengths_of_time_are_as_exact_as_they_are(seconds, shown):
    assert text.duration(seconds) == shown


def test_short_times_show_their_fraction():
    assert (text.took(0.34), text.took(75)) == ("0.3 s", "1:15")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain ünïcode 漢字", "plain ünïcode 漢字"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("bell\x07 and back\b", "bell· and back·"),
        ("right\u202eto left", "right·to left"),
        ("two\r\nlines", "two\nlines"),
    ],
)
def test_user_text_cannot_play_with_the_terminal(given, shown):
    assert text.printable(given) == shown


def test_cells_and_log_lines_have_one_line():
    assert text.one_line(" a\n\tb  c\n") == "a b c"


def test_only_the_first_lines_that_say_something():
    assert text.first_lines("a\n\nb\nc\nd", 3) == "a\nb\nc\n…"
    assert text.first_lines("a\n", 3) == "a"


def test_many_ids_are_counted_instead():
    assert text.some_of(list(range(1, 4))) == "1, 2, 3"
    assert text.some_of(list(range(2000)), most=2) == "0, 1, … and 1,998 more"


def test_counting():
    assert text.count_of(1, "task") == "1 task"
    assert text.count_of(2000, "batch", "batches") == "2,000 batches"


def test_what_a_program_wrote_keeps_its_colours_and_plays_no_tricks():
    assert text.coloured("plain\tline\n") == "plain\tline\n"
    assert text.coloured("\x1b[31mred\x1b[0m\r\n50%\r60%") == "\x1b[31mred\x1b[0m\r\n50%\r60%\x1b[0m"
    assert text.coloured("\x1b]0;title\x07\x1b[2Ja\x9bb\u202ec\x08\x1b[") == "a·b·c·"
