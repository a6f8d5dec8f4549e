"""Tasks read from the bytes of a load are those that protobuf reads, and what it refuses is refused."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmd._pb.swarm.v1 import array_pb2, task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2 import AddTasksRequest
from swarmd.core.columns import TaskColumns, is_alike
from swarmd.core.text import TextBlock
from swarmd.wire import tasks as reading
from swarmd.wire.chunks import TASKS_AT_ONCE, LoadChunk
from swarmd.wire.from_proto import columns_of_messages

DEADLINE = timedelta(seconds=5)
int64s = st.one_of(st.integers(0, 300), st.integers(-(2**63), 2**63 - 1))
int32s = st.one_of(st.integers(0, 300), st.integers(-(2**31), 2**31 - 1))
SCALES = st.dictionaries(st.sampled_from(["memory_mib", "runtime", "é"]), st.floats(allow_nan=False), max_size=2)
tasks = st.builds(
    task_pb2.Task,
    task_id=int64s,
    array_id=int64s,
    task_resources_id=int64s,
    name=st.text(max_size=5),
    command=st.text(max_size=200),
    upstream_task_ids=st.lists(int64s, max_size=5),
    status=st.one_of(st.integers(0, 12), int32s),
    max_attempts=st.none() | int32s,
    priority=int32s,
    resource_scales=SCALES,
    attempt=int32s,
    failed_attempts=int32s,
    reason=st.sampled_from(["", "", "", "odd"]),
)
NUMBERS = (
    *("task_ids", "array_ids", "task_resources_ids", "upstream_counts", "upstream_ids"),
    *("priorities", "max_attempts", "statuses", "attempts", "failed_attempts"),
)
PIECES = st.one_of(
    tasks.map(lambda task: task.SerializeToString()),
    st.sampled_from(
        [
            b"",
            b"\x30\x07\x32\x02\x01\x02\x30\x08",  # upstreams, packed and not
            b"\x22\x01a\x22\x02\xc3\xa9",  # a name, and again
            b"\x22\x01\xc3\x22\x01\xa9",  # a name that is none
            b"\x22\x01\xc3\x22\x01a",
            b"\x22\x81\x80\x80\x80\x80\x00a",  # lengths of too many bytes
            b"\x32\x81\x80\x80\x80\x80\x00\x05",
            b"\x08" + b"\xff" * 9 + b"\x01",
            b"\x08" + b"\xff" * 9 + b"\x02",
            b"\x08" + b"\xff" * 10 + b"\x01",
            b"\x08\x80\x00",
            b"\x88\x00\x05",
            b"\x0a\x01\x05",
            b"\x32\x02\x80\x80",
            b"\x32\x00",
            b"\x52\x00",
            b"\x22" + b"\xff" * 9 + b"\x01",
            b"\x22\x7f",
            b"\x08",
            b"\x00",
            b"\xff\xff",
            b"\x6b\x6c",
        ]
    ),
    st.binary(max_size=6),
)
TASK_BYTES = st.lists(PIECES, min_size=1, max_size=3).map(b"".join)


def request(*encoded: bytes, others: AddTasksRequest | None = None) -> bytes:
    whole = (others or AddTasksRequest()).SerializeToString()
    return whole + b"".join(b"\x22" + _length(len(each)) + each for each in encoded)


def _length(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80, number >> 7])


def texts(block: TextBlock) -> list[bytes]:
    ends = np.zeros(block.size, dtype=np.int64) if block.ends is None else block.ends
    return [bytes(block.data[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def plain(columns: TaskColumns) -> dict[str, Any]:
    """All that it holds."""
    found: dict[str, Any] = {name: getattr(columns, name).tolist() for name in NUMBERS}
    found |= {f"{name} type": getattr(columns, name).dtype for name in NUMBERS}
    scales = [columns.scale_sets[place] for place in columns.scales.tolist()]
    return {**found, "names": texts(columns.names), "commands": texts(columns.commands), "scales": scales}


def opened(message: bytes) -> LoadChunk:
    chunk = LoadChunk(message)
    for _ in chunk.open():
        pass
    return chunk


def read(message: bytes, at_once: int = 3) -> TaskColumns | None:
    """The tasks of a message as they are read here; None where there are none."""
    parts = list(opened(message).parts(at_once))
    return TaskColumns.joined(parts) if parts else None


@settings(deadline=DEADLINE)
@given(st.lists(TASK_BYTES, min_size=1, max_size=8))
@example([b"\x08\x01\x32\x01\x05", b"\x08\x02", b"\x08\x03\x32\x02\x05\x06"])
@example([b"\x22\x01\xc3\x22\x01a"])
@example([b"\x22\x81\x80\x80\x80\x80\x00a"])
@example([b"\x32\x81\x80\x80\x80\x80\x00\x05"])
def test_what_is_read_is_what_protobuf_reads(encoded: list[bytes]):
    message = request(*encoded)
    try:
        expected = plain(columns_of_messages(AddTasksRequest.FromString(message).tasks))
    except DecodeError:
        with pytest.raises(DecodeError):
            read(message)
        return
    columns = read(message)

    assert columns is not None
    assert plain(columns) == expected


@settings(deadline=DEADLINE)
@given(st.lists(tasks, min_size=1, max_size=20))
def test_usual_tasks_are_read_without_protobuf(messages: list[task_pb2.Task]):
    for message in messages:
        message.ClearField("reason")
    encoded = [message.SerializeToString() for message in messages]
    ends = np.cumsum([len(each) for each in encoded])
    data = b"".join(encoded) + reading.PADDING
    starts = np.concatenate(([0], ends[:-1]))

    columns = reading._Reading(data, starts, ends).columns()  # raises where protobuf would be asked

    assert plain(columns) == plain(columns_of_messages(messages))


@settings(deadline=DEADLINE)
@given(st.binary(max_size=30) | st.lists(PIECES, max_size=4).map(b"".join))
def test_any_bytes_are_read_or_refused_as_protobuf_does(message: bytes):
    try:
        expected = AddTasksRequest.FromString(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            read(message)
        return
    chunk = opened(message)

    assert len(chunk) == len(expected.tasks)
    assert chunk.others.swarm_id == expected.swarm_id
    assert (chunk.others.request_id, len(chunk.others.arrays)) == (expected.request_id, len(expected.arrays))


def test_what_stands_between_tasks_is_found():
    one = AddTasksRequest(arrays=[array_pb2.Array(array_id=1, name="x" * 300)], swarm_id="a", request_id="r")
    two = AddTasksRequest(tasks=[task_pb2.Task(task_id=1)], arrays=[array_pb2.Array(array_id=2)], swarm_id="b")
    chunk = opened(one.SerializeToString() + two.SerializeToString())

    assert [each.array_id for each in chunk.others.arrays] == [1, 2]
    assert (chunk.others.swarm_id, chunk.others.request_id, len(chunk)) == ("b", "r", 1)


RUNS = st.lists(
    st.tuples(st.sampled_from([0, 1, 5, 127, 128, 129, 300]), st.integers(1, 30), st.booleans()), max_size=8
)


@settings(deadline=DEADLINE)
@given(RUNS)
def test_tasks_of_the_same_length_are_found_however_they_follow_each_other(runs: list[tuple[int, int, bool]]):
    """Runs of tasks whose texts are of one length, with another field between some of them."""
    message, numbers = b"", list[int]()
    for length, count, between in runs:
        ids = range(len(numbers), len(numbers) + count)
        message += request(*(_numbered(number, length) for number in ids), others=AddTasksRequest())
        message += b"" if between else b"\x12\x00"
        numbers += ids
    chunk = opened(message)

    assert len(chunk) == len(numbers)
    assert [each for part in chunk.parts(7) for each in part.task_ids.tolist()] == numbers
    assert len(chunk.others.arrays) == sum(not between for _, _, between in runs)


def test_a_run_longer_than_what_is_found_at_once():
    ids = range(1000, 1000 + 3 * TASKS_AT_ONCE)
    chunk = LoadChunk(request(*(_numbered(number, 3) for number in ids)))
    assert 3 <= sum(1 for _ in chunk.open()) <= 6
    assert [each for part in chunk.parts() for each in part.task_ids.tolist()] == list(ids)


@pytest.mark.parametrize("missing", range(1, 40))
def test_a_message_that_is_cut_off_is_refused(missing: int):
    whole = request(*(_numbered(number, 3) for number in range(20)))
    message = whole[:-missing]
    if len(message) % (len(whole) // 20):
        with pytest.raises(DecodeError):
            opened(message)
    else:
        assert len(opened(message)) == len(message) // (len(whole) // 20)


def _numbered(number: int, length: int) -> bytes:
    return b"\x08" + _length(number) + b"\x22" + _length(length) + b"x" * length


def test_an_unknown_field_of_a_message_is_passed_over():
    message = b"\x3a\x01x" + request(b"\x08\x05") + b"\x40\x07"

    columns = read(message)

    assert columns is not None
    assert columns.task_ids.tolist() == [5]


def test_what_all_tasks_have_alike_takes_no_memory():
    columns = read(
        request(*(task_pb2.Task(task_id=n, array_id=3, max_attempts=7).SerializeToString() for n in range(9)))
    )

    assert columns is not None
    assert (columns.array_ids.tolist(), columns.max_attempts.tolist()) == ([3] * 9, [7] * 9)
    same = (columns.array_ids, columns.max_attempts, columns.statuses, columns.upstream_counts, columns.scales)
    assert all(is_alike(column) for column in same)
    assert not is_alike(columns.task_ids)
