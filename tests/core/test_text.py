"""Texts by row: what goes in comes out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.core.text import TextBlock, TextColumn

texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=8) | st.just(""), max_size=12)


def a_column(*blocks: list[str]) -> TextColumn:
    column = TextColumn()
    for block in blocks:
        column.extend(TextBlock(block))
    return column


def all_of(column: TextColumn) -> list[str]:
    return [column[row] for row in range(column.size)]


@settings(deadline=None)
@given(st.lists(texts, max_size=6))
def test_a_column_gives_back_the_texts_of_all_its_blocks(blocks):
    assert all_of(a_column(*blocks)) == [text for block in blocks for text in block]


@settings(deadline=None)
@given(st.lists(texts, max_size=6))
def test_joined_blocks_are_the_same_as_one_after_the_other(blocks):
    joined = TextBlock.joined([TextBlock(block) for block in blocks])
    column = TextColumn()
    column.extend(joined)
    assert all_of(column) == [text for block in blocks for text in block]


@settings(deadline=None)
@given(texts, st.integers(0, 12))
def test_too_long_finds_the_first_text_with_more_bytes_than_allowed(block, limit):
    over = [place for place, text in enumerate(block) if len(text.encode()) > limit]
    assert TextBlock(block).too_long(limit) == (over[0] if over else None)


def test_rows_before_the_first_text_cost_nothing():
    column = TextColumn()
    column.extend(TextBlock(empty=1000))
    assert column.nbytes == 0
    column.extend(TextBlock(["x"]))
    assert (column[999], column[1000]) == ("", "x")


def test_rows_without_text_may_come_after_some_with_text():
    assert all_of(a_column(["a", "bc"], ["", ""], ["d"])) == ["a", "bc", "", "", "d"]


def test_a_multibyte_text_is_measured_in_bytes():
    assert TextBlock(["ää"]).too_long(3) == 0
    assert TextBlock(["ää"]).too_long(4) is None


@given(texts=texts, empty=st.integers(0, 5))
def test_sizes_are_those_of_the_texts(texts: list[str], empty: int):
    column = TextColumn()
    column.extend(TextBlock(empty=empty))
    column.extend(TextBlock(texts))
    rows = np.arange(column.size)
    assert column.sizes(rows).tolist() == [len(column[row].encode()) for row in rows.tolist()]
    assert column.text_bytes == sum(len(text.encode()) for text in texts)
