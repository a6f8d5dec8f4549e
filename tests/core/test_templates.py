"""Commands with placeholders."""

import pytest

from swarmd.core.errors import InvalidInputError
from swarmd.core.templates import check_template, fill, placeholders

VALUES = {"task_id": 7, "name": "seven"}


@pytest.mark.parametrize(
    ("template", "command"),
    [
        ("run {task_id} as {name}", "run 7 as seven"),
        ("{task_id}{task_id}", "77"),
        ("echo ${task_id}", "echo ${task_id}"),
        ("echo {{task_id}}", "echo {task_id}"),
        ("{a,b} { x } {} {1}", "{a,b} { x } {} {1}"),
        ("{unknown}", "{unknown}"),
        ("nothing", "nothing"),
        ("", ""),
        ("find . -exec ls {} +", "find . -exec ls {} +"),
    ],
)
def test_a_placeholder_is_replaced_and_everything_else_left_alone(template, command):
    assert fill(template, VALUES) == command


def test_a_value_that_looks_like_a_placeholder_is_not_filled_again():
    assert fill("{name}", {"name": "{task_id}", "task_id": 1}) == "{task_id}"


def test_placeholders_are_named_once_and_in_order():
    assert placeholders("{b} {a} {b} {{c}} ${d}") == ["b", "a"]


def test_an_unknown_placeholder_is_refused_with_the_remedy():
    with pytest.raises(InvalidInputError, match=r"\{oops\} is not known.*write \{\{oops\}\}") as caught:
        check_template("run {task_id} {oops}", field="arrays[3].command")
    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_PLACEHOLDER", "arrays[3].command")


def test_every_placeholder_of_a_task_is_known():
    check_template("{task_id} {name} {array_id} {array_name} {swarm_id} {attempt} {{print}}", field="")
