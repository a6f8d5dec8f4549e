"""Packed numbers are what protobuf would have written."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd._pb.swarm.journal.v1 import event_pb2
from swarmd._pb.swarm.v1 import batch_pb2
from swarmd.core.events import BatchesHandedOut
from swarmd.journal.encoding import encode, to_message
from swarmd.wire.packing import field, packed, packed_parts, varint

lengths = st.integers(0, 63).map(lambda bits: (1 << bits) - 1)
near_a_length = st.builds(lambda most, less: max(-(1 << 63), most - less), lengths, st.integers(-1, 2)).filter(
    lambda number: number < 1 << 63
)
ids = st.lists(near_a_length | st.integers(-(1 << 63), (1 << 63) - 1), max_size=30)
alike = st.builds(lambda first, count: list(range(first, first + count)), st.integers(0, 1 << 40), st.integers(0, 30))
small = st.lists(st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(0, 200), max_size=30)


@given(numbers=ids | alike)
def test_ids_are_packed_as_protobuf_does_it(numbers: list[int]):
    message = batch_pb2.Batch.FromString(field(5, packed(np.array(numbers, dtype=np.int64))))
    assert list(message.task_ids) == numbers
    assert message.SerializeToString() == batch_pb2.Batch(task_ids=numbers).SerializeToString()
    assert field(5, packed(np.array(numbers, dtype=np.int64))) == message.SerializeToString()


@given(numbers=small)
def test_attempts_are_packed_as_protobuf_does_it(numbers: list[int]):
    expected = batch_pb2.Batch(attempts=numbers).SerializeToString()
    assert field(6, packed(np.array(numbers, dtype=np.int32))) == expected


@given(parts=st.lists(ids | alike, max_size=6))
def test_many_columns_at_once_are_packed_as_each_alone(parts: list[list[int]]):
    columns = [np.array(part, dtype=np.int64) for part in parts]
    assert packed_parts(columns) == [packed(column) for column in columns]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 1 << 20, (1 << 63) - 1])
def test_one_number(number: int):
    assert varint(number) == packed(np.array([number]))


@given(numbers=ids, attempts=small, names=st.lists(st.text(max_size=5), max_size=4), request_id=st.text(max_size=5))
def test_the_event_of_batches_that_were_handed_out_is_the_message_it_says(numbers, attempts, names, request_id):
    columns = np.array(numbers, dtype=np.int64), np.array(attempts, dtype=np.int32)
    event = BatchesHandedOut(names, list(range(len(names))), *columns, request_id)
    assert event_pb2.Event.FromString(encode(event)) == to_message(event)
