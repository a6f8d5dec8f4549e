"""Each mistake in a file is told with its line, its path and the remedy."""

import pytest


def array(body: str) -> str:
    return f"name: w\narrays:\n  a:\n    {body}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "flow.yaml:1: must hold a mapping with at least 'name' and 'arrays'"),
        ("just words", "flow.yaml:1: must hold a mapping with at least 'name' and 'arrays'"),
        ("arrays: {a: {command: x}}", "flow.yaml: name: is required"),
        ("name: w\narrays: {}", "flow.yaml:2: arrays: must not be empty"),
        ("name: w\narray: 1", "flow.yaml:2: array: is not known here; did you mean 'arrays'?"),
        ("name: 5\narrays: {a: {command: x}}", "flow.yaml:1: name: must be a text, not 5"),
        ("schemaVersion: '1.5'\nworkflow: {}", "flow.yaml:1: is a recorded workflow in WfFormat"),
        (array("comand: x"), "flow.yaml:4: arrays.a.comand: is not known here; did you mean 'command'?"),
        (array("command: x\n    count: many"), "arrays.a.count: must be a whole number, not the text 'many'"),
        (array("command: x\n    count: 0"), "flow.yaml:5: arrays.a.count: must be 1 or more, not 0"),
        (array("command: x\n    priority: true"), "arrays.a.priority: must be a whole number, not true"),
        (array("command: []"), "flow.yaml:4: arrays.a.command: must be a text, not a list"),
        (array("command: x\n    max_attempts: 0"), "arrays.a.max_attempts: must be 1 or more, not 0"),
        (array("command: x\n    after: b"), "flow.yaml:5: arrays.a.after: must be a list, not the text 'b'"),
        (array("command: x\n    after: [3]"), "arrays.a.after[0]: must be an array's name or a mapping like"),
        (
            array("command: x\n    after:\n      - {array: b, bye: [c]}"),
            "after[0].bye: is not known here; did you mean 'by'?",
        ),
        (array("command: x\n    after: [{array: b, by: [c], one_to_one: true}]"), "has both 'by' and 'one_to_one'"),
        (
            array("command: x\n    count: 2\n    tasks: [b]"),
            "flow.yaml:3: arrays.a: has tasks and count; keep one of them",
        ),
        (
            array("command: x\n    resources: {memory: lots}"),
            "arrays.a.resources.memory: 'lots' is no memory size; write 4G",
        ),
        (
            array("command: x\n    resources: {runtime: soon}"),
            "arrays.a.resources.runtime: 'soon' is no duration; write 90s",
        ),
        (array("command: x\n    resources: {cpus: 2}"), "arrays.a.resources.cpus: is not known here"),
        (array("command: x\n    resources: [big]"), "arrays.a.resources: must be the name of an entry of 'resources'"),
        (array("command: x\n    parameters: {b: 3}"), "arrays.a.parameters.b: must be a list of values or a range"),
        (array("command: x\n    parameters: {b: []}"), "arrays.a.parameters.b: must not be empty"),
        (array("command: x\n    parameters: {b: [[1]]}"), "arrays.a.parameters.b[0]: must be a text, a number"),
        (array("command: x\n    parameters: {b-c: [1]}"), "arrays.a.parameters.b-c: must be made of letters"),
        (array("command: x\n    parameters: {b: {from: 1}}"), "flow.yaml:5: arrays.a.parameters.b.to: is required"),
        (array("command: x\n    parameters: {b: {from: 1, to: 3, step: 0}}"), "step must not be 0"),
        (array("command: x\n    parameters: {b: {from: 3, to: 1}}"), "steps of 1 do not lead from 3 to 1"),
        (array("command: x\n    tasks: [5]"), "arrays.a.tasks[0]: must be a task's name or a mapping"),
        (array("command: x\n    tasks: [{p: [1]}]"), "arrays.a.tasks[0].p: must be a text, a number, true or false"),
        (
            array("command: x\n    resource_scales: {disk: 1}"),
            "resource_scales.disk: must be 'cores', 'memory' or 'runtime'",
        ),
        (array("command: x\n    resource_scales: {memory: -1}"), "resource_scales.memory: must be 0 or more, not -1"),
        (
            "name: w\nenvironment: {A: true}\narrays: {a: {command: x}}",
            "environment.A: must be a text or a number; quote",
        ),
        (
            "name: w\nenvironment: {A-B: x}\narrays: {a: {command: x}}",
            "flow.yaml:2: environment.A-B: must be made of letters",
        ),
        ("name: w\narrays: {'a{b}': {command: x}}", "arrays.a{b}: must be without braces"),
        (
            "name: w\nscheduling_policy: fastest\narrays: {a: {command: x}}",
            "flow.yaml:2: scheduling_policy: must be 'first_come_first_served', 'longest_path_first' or 'fair_share'",
        ),
    ],
)
def test_a_wrong_field_is_told_with_its_line(refusal, text, message):
    assert message in refusal(text)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(refusal):
    lines = refusal("fail_fast: maybe\nname: 3\narrays: {a: {command: x, count: -1}}").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["flow.yaml:1", "flow.yaml:2", "flow.yaml:3"]


def test_after_twenty_mistakes_the_rest_is_counted(refusal):
    arrays = "".join(f"  a{number}: {{comand: x}}\n" for number in range(50))
    lines = refusal(f"name: w\narrays:\n{arrays}").splitlines()
    assert len(lines) == 21
    assert lines[-1] == "flow.yaml: and 30 more problems"
