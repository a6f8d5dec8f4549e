"""Events as bytes: each comes back as what it was, and bytes that are none are told as damage."""

from dataclasses import replace
from datetime import timedelta
from typing import get_args
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmd._pb.swarm.journal.v1 import event_pb2
from swarmd.core import history
from swarmd.core.comparing import differences
from swarmd.core.errors import DamagedError
from swarmd.core.events import (
    BatchDoubted,
    Configured,
    Created,
    Event,
    Loaded,
    LoadPart,
    SwarmSettings,
    TickAnswered,
    Updated,
)
from swarmd.core.model import QueueLimits, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.status import RunStatus
from swarmd.core.swarm import Swarm
from swarmd.core.update import StateUpdate
from swarmd.journal.encoding import decode, encode, encode_update
from swarmd.wire import to_proto
from tests.core.builders import news
from tests.core.test_freezing import CREATED, lived, plain, small_sweeps, steps, told_again

WHOLE = [encode(CREATED), *(encode(event) for event, _ in lived().told)]


@settings(max_examples=40, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.too_slow])
@given(story=steps, policy=st.sampled_from(SchedulingPolicy))
def test_what_was_written_down_leads_to_the_same_swarm(story, policy):
    with patch.multiple(history, BULK_FROM=4), small_sweeps():
        life = lived(story, policy)
        created = decode(encode(life.created))
        assert created == life.created
        again = told_again(((decode(encode(event)), at) for event, at in life.told), created)
        assert differences(life.swarm, again) == []


def test_a_long_life_holds_every_kind_of_event():
    """Else the test above would prove little."""
    assert {type(event) for event, _ in lived().told} == set(get_args(Event)) - {Created}


@settings(max_examples=100, deadline=timedelta(seconds=5))
@given(
    texts=st.tuples(*[st.text(max_size=20)] * 5),
    directory=st.sampled_from(["", "/tmp", "/home/nobody/eine Größe ☠"]),
    flags=st.tuples(*[st.booleans()] * 3),
    limit=st.integers(0, 2**31 - 1),
    status=st.sampled_from(RunStatus),
    environment=st.dictionaries(st.sampled_from(["LANG", "PATH", "ö"]), st.sampled_from(["", "C", "a=b", "☠"])),
    options=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_the_first_event_comes_back_in_every_field(texts, directory, flags, limit, status, environment, options):
    swarm_id, name, gateway, token, asked = texts
    paused, autopilot, fail_fast = flags
    of = SwarmSettings(
        swarm_id, name, limit, paused, autopilot, fail_fast, gateway or "local", status, directory, environment, options
    )
    created = Created(of, token, asked, asked)
    assert decode(encode(created)) == created


@pytest.mark.parametrize(
    "event",
    [
        Configured(),
        Configured(paused=False, fail_fast=True, autopilot=False, display_name=""),
        BatchDoubted("s-1", "die Leitung ☠"),
        TickAnswered("tick", "asked", bytes(range(256))),
        Loaded("load", [], [], request_id="again", asked="fingerprint"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_is_empty_stays_apart_from_what_is_not_there(event):
    assert plain(decode(encode(event))) == plain(event)


def test_an_update_may_be_written_down_as_the_message_that_it_came_in():
    update = news("E", [5, 1 << 40, 7], [1, 2, 3], "why")
    told = to_proto.state_update(update).SerializeToString()
    assert event_pb2.Event.FromString(encode_update(told)) == event_pb2.Event.FromString(encode(Updated(update)))
    nothing = event_pb2.Event.FromString(encode_update(b""))
    assert nothing == event_pb2.Event.FromString(encode(Updated(StateUpdate())))


@pytest.mark.parametrize("status", "QIORDEAFG")
def test_news_comes_back_with_ids_attempts_and_reason(status):
    event = Updated(news(status, [1, 2**62, 3], [1, 2, 2**31 - 1], "gestört"))
    assert plain(decode(encode(event))) == plain(event)


@settings(max_examples=200, deadline=timedelta(seconds=5))
@given(
    st.builds(
        QueueLimits,
        st.text(max_size=5),
        st.text(max_size=5),
        st.none() | st.integers(1, 2**31 - 1),
        st.none() | st.integers(1, 2**31 - 1),
        st.none() | st.floats(1e-9, 315_576_000_000.0),
    )
)
def test_what_queues_can_hold_comes_back_as_it_was_applied(limits):
    """A journal keeps times to the nanosecond: what is applied at once must be no more exact than that."""
    applied, replayed = Swarm(CREATED, 0.0), Swarm(CREATED, 0.0)
    event = applied.check(Updated(StateUpdate(queue_limits=[limits])))
    applied.apply(event, 1.0)
    replayed.apply(decode(encode(event)), 1.0)
    (kept,) = applied.state.table.queues.known.values()
    assert list(replayed.state.table.queues.known.values()) == [kept]
    assert replace(kept, runtime_seconds=limits.runtime_seconds) == limits
    assert kept.runtime_seconds == pytest.approx(limits.runtime_seconds, abs=1e-9)


def test_resources_come_back_in_every_field():
    resources = [
        TaskResources(1, "c", "q", 4, 512, 90.5, {"account": "x"}, ("long", "", "größer")),
        TaskResources(2),
    ]
    decoded = decode(encode(Loaded("load", [], resources)))
    assert isinstance(decoded, Loaded)
    assert decoded.task_resources == resources


# -- damage ------------------------------------------------------------------------------------------------------------


def readable(data: bytes) -> bool:
    """Whether these bytes are an event; anything but DamagedError fails the test."""
    try:
        event = decode(data)
    except DamagedError:
        return False
    encode(event)
    return True


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_event_or_damage(data):
    readable(data)


@settings(max_examples=800, deadline=None)
@given(data=st.data())
def test_an_event_with_other_bytes_in_it_is_an_event_or_damage(data):
    whole = data.draw(st.sampled_from(WHOLE))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole)))
        new = data.draw(st.binary(max_size=4))
        whole = whole[:at] + new + whole[at + data.draw(st.integers(0, 8)) :]
    readable(whole)


@pytest.mark.parametrize("whole", WHOLE[:20], ids=range(20))
def test_an_event_that_is_cut_off_is_an_event_or_damage(whole):
    assert [readable(whole[:length]) for length in range(len(whole))].count(False) > 0


def test_a_kind_of_a_later_version_is_named():
    with pytest.raises(DamagedError, match="it is of a kind that this version does not know: 77"):
        decode(b"\xea\x04\x00")


def test_no_bytes_are_no_event():
    with pytest.raises(DamagedError, match="a kind that this version does not know: none"):
        decode(b"")


@pytest.mark.parametrize(
    ("column", "change", "sentence"),
    [
        ("priorities", lambda column: column[:-4], "different lengths"),
        ("priorities", lambda column: column[:-1], "multiple of element size"),
        ("statuses", lambda column: column + b"\1", "different lengths"),
        ("upstream_ids", lambda column: column + bytes(8), "not as many as it counts"),
        ("upstream_counts", lambda column: b"\xff" * len(column), "its upstreams"),
        ("scales", lambda column: b"\x63" * len(column), "scales are not all there"),
    ],
)
def test_columns_that_do_not_fit_are_damage(column, change, sentence):
    event = next(event for event, _ in lived().told if isinstance(event, LoadPart))
    message = event_pb2.Event.FromString(encode(event))
    tasks = message.load_part.tasks
    setattr(tasks, column, change(getattr(tasks, column)))
    with pytest.raises(DamagedError, match=f"its load_part event makes no sense: .*{sentence}"):
        decode(message.SerializeToString())
