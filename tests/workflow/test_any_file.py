"""Whatever a file holds, it is read or refused; and what the manual shows is read."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmd.workflow import WorkflowFileError, WorkflowPlan, load_workflow, read_wfformat

ROOT = Path(__file__).parents[2]
STUDY = yaml.safe_load((ROOT / "examples" / "study" / "study.yaml").read_text(encoding="utf-8"))
MANUAL = (ROOT / "docs" / "workflow-file.md").read_text(encoding="utf-8")

odd_values: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, -1, 1.5, float("nan"), 10**30, "", "x", "{y}", "\0", "\ud800", [], {}, [None], [[]], {"a": {}}]
)


def places(value: object, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(place for key, item in inside for place in places(item, (*above, key)))]


def replaced(value: object, place: tuple[str | int, ...], new: object) -> object:
    if not place:
        return new
    key, *rest = place
    if isinstance(value, dict):
        return {**value, key: replaced(value[key], tuple(rest), new)}
    assert isinstance(value, list)
    return [replaced(item, tuple(rest), new) if index == key else item for index, item in enumerate(value)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.data())
def test_a_file_with_anything_in_any_place_is_read_or_refused(write, data):
    broken = replaced(STUDY, data.draw(st.sampled_from(places(STUDY))), data.draw(odd_values))
    with contextlib.suppress(WorkflowFileError):
        load_workflow(write(json.dumps(broken), "flow.json"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet="ab:-{}[]&*!<>|'\"#\t\n ,?@%", max_size=40).map(str.encode))
def test_any_bytes_are_refused(write, content):
    for name in ("flow.yaml", "flow.json"):
        path = write(content, name)
        for read in (load_workflow, read_wfformat):
            with pytest.raises(WorkflowFileError):
                read(path)


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL))
def test_the_examples_of_the_manual_are_read(load, example):
    if example.startswith("name:"):
        assert isinstance(load(example), WorkflowPlan)
    elif example.startswith("arrays:"):
        assert isinstance(load(f"name: w\n{example}"), WorkflowPlan)
    elif not example.startswith("after:"):
        command = "" if "\ncommand:" in f"\n{example}" else "command: x\n"
        body = "".join(f"    {line}\n" for line in (command + example).splitlines())
        assert isinstance(load(f"name: w\narrays:\n  a:\n{body}"), WorkflowPlan)
