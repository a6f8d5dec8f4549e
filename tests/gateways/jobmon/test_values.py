"""What travels between Jobmon and the core: resources, scales, limits, errors, settings, times."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.core.errors import InvalidInputError
from swarmd.core.model import ADJUSTED_RESOURCES_BASE, QueueLimits, TaskResources
from swarmd.gateways.catalogue import GatewayContext
from swarmd.gateways.jobmon import made
from swarmd.gateways.jobmon.clock import SyncClock
from swarmd.gateways.jobmon.failures import CallError, LostError, NoRouteError, NotDoneError, RefusedError, failure
from swarmd.gateways.jobmon.literals import read_literal, read_mapping
from swarmd.gateways.jobmon.resources import queue_limits, requested_resources, resource_scales, task_resources
from swarmd.gateways.jobmon.settings import RunOptions, read_options

# -- resources -----------------------------------------------------------------------------------------------------


def test_what_was_asked_for_at_first_is_bound_just_as_it_was():
    asked = {"cores": 2, "memory": 1.5, "runtime": 90, "project": "proj", "constraints": ["a", None], "stdout": "/x"}
    resources = task_resources(3, "slurm", "all.q", json.dumps(asked), "['long.q', 'huge.q']")
    assert (resources.cores, resources.memory_mib, resources.runtime_seconds) == (2, 1536, 90)
    assert (resources.cluster, resources.queue, resources.fallback_queues) == ("slurm", "all.q", ("long.q", "huge.q"))
    assert requested_resources(resources) == asked


def test_nothing_asked_for_stays_nothing():
    assert requested_resources(task_resources(1, "dummy", "null.q", "{}", "[]")) == {}


def test_of_adjusted_resources_the_numbers_count():
    first = task_resources(1, "c", "q", "{'cores': 1, 'memory': 2, 'runtime': 60, 'project': 'p'}", "")
    grown = TaskResources(
        ADJUSTED_RESOURCES_BASE + 1, cores=1, memory_mib=3000, runtime_seconds=90.0, extra=first.extra, queue="long.q"
    )
    assert requested_resources(grown) == {"cores": 1, "memory": 3000 / 1024, "runtime": 90, "project": "p"}


def test_resources_of_other_clients_are_put_together_from_the_numbers():
    resources = TaskResources(1, cores=4, memory_mib=2048, runtime_seconds=30.5, extra={"project": "plain words"})
    assert requested_resources(resources) == {"cores": 4, "memory": 2, "runtime": 30.5, "project": "plain words"}


@given(
    st.dictionaries(st.sampled_from(["cores", "memory", "runtime"]), st.integers(1, 10_000)),
    st.dictionaries(st.text(min_size=1, max_size=8), st.none() | st.booleans() | st.integers() | st.text()),
)
def test_any_resources_come_back_unchanged(numbers, others):
    asked = {**{name: value for name, value in others.items() if name != "task_resources_type_id"}, **numbers}
    for text in (json.dumps(asked), str(asked)):
        assert requested_resources(task_resources(1, "c", "q", text, "[]")) == asked


def test_resources_that_nobody_can_read_are_refused_by_their_queue():
    with pytest.raises(InvalidInputError, match=r"queue 'q' of cluster 'c': .*neither JSON nor a Python literal"):
        task_resources(1, "c", "q", "<Resources object>", "[]")


@pytest.mark.parametrize(
    ("parameters", "cores", "memory_mib", "runtime"),
    [
        ("{'cores': (1, 20), 'memory': (1, 750), 'runtime': (1, 1382400)}", 20, 768_000, 1_382_400),
        ('{"cores": [1, 4], "memory": 0.5}', 4, 512, None),
        ("{}", None, None, None),
        ("{'cores': 'many', 'memory': (None, None), 'runtime': 0}", None, None, None),
    ],
)
def test_a_queue_holds_the_upper_end_of_its_ranges(parameters, cores, memory_mib, runtime):
    limits = queue_limits("c", "q", read_mapping(parameters))
    assert limits == QueueLimits("c", "q", cores, memory_mib, runtime)


def test_scales_that_the_core_cannot_follow_are_left_out():
    assert resource_scales("{'memory': 0.5, 'runtime': 1, 'gpus': 2, 'cores': [1, 2]}") == {"memory": 0.5, "runtime": 1}
    assert resource_scales("") == {}
    with pytest.raises(InvalidInputError, match="resource_scales"):
        resource_scales("{'memory': <function scale>}")


def test_texts_are_json_or_python():
    assert read_literal('{"a": [1, null]}') == {"a": [1, None]}
    assert read_literal("{'a': (1, None)}") == {"a": (1, None)}
    assert read_literal([1]) == [1]
    with pytest.raises(ValueError, match="neither"):
        read_literal("__import__('os')")
    with pytest.raises(ValueError, match="no mapping"):
        read_mapping("[1]")


# -- errors --------------------------------------------------------------------------------------------------------


def body(kind: str) -> bytes:
    return json.dumps({"error": {"type": kind, "exception_message": "words"}}).encode()


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (500, body("<class 'KeyError'>"), RefusedError),
        (500, body("KeyError"), RefusedError),
        (500, body("<class 'sqlalchemy.exc.NoResultFound'>"), RefusedError),
        (500, body("<class 'sqlalchemy.exc.OperationalError'>"), LostError),
        (500, b"<html>oops", LostError),
        (400, body("InvalidUsage"), RefusedError),
        (422, b"{}", RefusedError),
        (423, body("deadlock"), LostError),
        (408, b"", LostError),
        (502, b"", LostError),
        (504, b"", LostError),
        (503, b"", NotDoneError),
        (404, b"", NoRouteError),
        (401, b"", NotDoneError),
        (403, b"", NotDoneError),
        (302, b"", NotDoneError),
    ],
)
def test_errors_say_what_was_done(status: int, content: bytes, expected: type[CallError]):
    found = failure(status, content, "POST /x")
    assert type(found) is expected
    assert f"POST /x: Jobmon's server answers {status}" in str(found)


def test_an_answer_is_no_error():
    assert failure(200, b"{}", "") is None


# -- settings ------------------------------------------------------------------------------------------------------


def test_a_section_that_is_wrong_is_refused_with_its_file_and_name():
    with pytest.raises(
        InvalidInputError, match=r"swarmd.toml: \[gateways.jobmon\] heartbeat_secs .*'heartbeat_seconds'"
    ):
        made(GatewayContext("jobmon", {"heartbeat_secs": 1}, "swarmd.toml"))
    with pytest.raises(InvalidInputError, match="doubt_seconds"):
        made(GatewayContext("jobmon", {"doubt_seconds": 0}))
    with pytest.raises(InvalidInputError, match=r"drain_seconds.*finite"):
        made(GatewayContext("jobmon", {"drain_seconds": float("inf")}))


def test_options_are_read_as_they_are_written():
    options = RunOptions("http://h:5", 3, 4, "/api/v3", "3.6.0")
    assert read_options(options.as_options()) == options
    assert options.url == "http://h:5/api/v3"
    assert RunOptions("http://h:5", 3, 4).as_options() == {
        "server": "http://h:5",
        "workflow_run_id": "3",
        "workflow_id": "4",
    }


# -- times ---------------------------------------------------------------------------------------------------------


def test_a_question_begins_before_the_one_before_it():
    clock = SyncClock(10.0)
    assert clock.base(0.0) is None
    for second in range(31):
        clock.told(float(second), f"at {second}")
    assert clock.base(30.0) == "at 20"


def test_everything_is_asked_for_until_there_is_a_time_to_go_back_to():
    clock = SyncClock(10.0)
    clock.told(0.0, "at 0")
    assert clock.base(9.0) is None
    assert clock.base(10.0) == "at 0"


def test_an_answer_that_does_not_count_as_a_whole_is_asked_for_again():
    clock = SyncClock(1.0)
    for second in range(5):
        clock.told(float(second), f"at {second}")
    assert clock.base(5.0) == "at 4"
    clock.hold()
    assert clock.base(60.0) == "at 4"
    clock.told(60.0, "at 60")
    assert clock.base(61.0) == "at 60"
