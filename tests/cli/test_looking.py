"""`status`, `tasks`, `explain`, `logs`, `watch`: what commands show of a swarm that is there."""

import threading
from pathlib import Path

import pytest

from tests.cli.conftest import ENDLESS, FAILING, Answer, Swarmd, swarmd_process
from tests.daemon import running, until


@pytest.fixture(scope="session")
def failed_workflow(daemon, tmp_path_factory) -> str:
    """A finished swarm: task 1 and 3 done, 2 failed twice, 4 and 5 blocked."""
    path = tmp_path_factory.mktemp("looking") / "flow.yaml"
    path.write_text(FAILING)
    assert swarmd_process("run", path, "--swarm-id", "looked-at", **daemon.environment).code == 1
    return "looked-at"


def test_all_swarms_in_a_table(swarmd: Swarmd, failed_workflow):
    lines = swarmd("status").out.splitlines()
    assert lines[0].split()[:4] == ["SWARM", "NAME", "STATE", "TASKS"]
    assert any(line.startswith("looked-at") and "failing" in line and "error" in line for line in lines)


def test_one_swarm_with_its_arrays(swarmd: Swarmd, failed_workflow):
    answer = swarmd("status", failed_workflow)
    assert "5 tasks: 2 wait, 2 done, 1 failed" in answer.out
    assert " 1  first" in answer.out
    assert "blocked" in answer.out
    assert swarmd("status", failed_workflow, "--arrays", "1").out.endswith(
        "… and 1 more arrays (--arrays N shows more)\n"
    )


def test_status_in_json(swarmd: Swarmd, failed_workflow):
    assert failed_workflow in [swarm["swarmId"] for swarm in swarmd("status", "--json").json["swarms"]]
    swarm = swarmd("status", failed_workflow, "--json").json
    assert [array["name"] for array in swarm["arrays"]] == ["first", "second"]


def test_an_unknown_swarm_is_refused(swarmd: Swarmd):
    answer = swarmd("status", "nobody")
    assert (answer.code, answer.out) == (4, "")
    assert answer.err.startswith("swarmd: ")
    assert "nobody" in answer.err


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], ["1", "2", "3", "4", "5"]),
        (["--status", "F"], ["2"]),
        (["--status", "error_fatal", "-s", "done"], ["1", "2", "3"]),
        (["--array", "second"], ["4", "5"]),
        (["--array", "1", "--status", "d"], ["1", "3"]),
        (["--limit", "2"], ["1", "2"]),
    ],
)
def test_tasks_by_status_and_array(swarmd: Swarmd, failed_workflow, options, ids):
    answer = swarmd("tasks", failed_workflow, *options, "--json")
    assert [task["taskId"] for task in answer.json_lines] == ids
    lines = swarmd("tasks", failed_workflow, *options).out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ids


def test_tasks_that_are_left_out_are_mentioned(swarmd: Swarmd, failed_workflow):
    assert (
        swarmd("tasks", failed_workflow, "-n", 2).err == "swarmd: there are more than 2; --limit 0 shows all of them\n"
    )
    assert swarmd("tasks", failed_workflow, "-n", 5).err == ""


def test_an_unknown_array_is_told(swarmd: Swarmd, failed_workflow):
    answer = swarmd("tasks", failed_workflow, "--array", "third")
    assert (answer.code, answer.err) == (
        4,
        "swarmd: no array is called 'third'; `swarmd status looked-at` lists them\n",
    )


def test_why_a_task_is_not_running(swarmd: Swarmd, failed_workflow):
    answer = swarmd("explain", failed_workflow, "second_0")
    assert answer.code == 0
    assert "blocked" in answer.out.splitlines()[0]
    assert swarmd("explain", failed_workflow, 4, "--json").json["obstacles"][0]["kind"] == "KIND_BLOCKED_BY_FAILURE"


def test_what_became_of_a_tasks_attempts(swarmd: Swarmd, failed_workflow):
    lines = swarmd("explain", failed_workflow, 2).out.splitlines()
    attempts = [line for line in lines if "no [red]table[/red]" in line and line.strip()[0] in "12"]
    assert len(attempts) == 2


def test_an_unknown_task_is_told(swarmd: Swarmd, failed_workflow):
    assert swarmd("explain", failed_workflow, 77).code == 4
    answer = swarmd("explain", failed_workflow, "nothing")
    assert (answer.code, answer.err) == (4, "swarmd: no task is called 'nothing'; `swarmd tasks` lists them\n")


def test_the_output_of_a_task(swarmd: Swarmd, failed_workflow):
    assert swarmd("logs", failed_workflow, 2, "--err").out == "no [red]table[/red]\n"
    assert swarmd("logs", failed_workflow, "first_1").out == ""
    path = swarmd("logs", failed_workflow, 2, "--err", "--attempt", 1, "--path").out.strip()
    assert path.endswith("looked-at/1/2.1.err")
    assert Path(path).exists()
    answer = swarmd("logs", failed_workflow, 2, "--err", "--json").json
    assert (answer["text"], answer["attempt"]) == ("no [red]table[/red]\n", 2)


def test_output_that_is_not_there_is_told(swarmd: Swarmd, failed_workflow):
    assert "has not been queued yet" in swarmd("logs", failed_workflow, 4).err
    assert "had no attempt 9" in swarmd("logs", failed_workflow, 2, "--attempt", 9).err


def test_following_the_output_until_the_task_ends(swarmd: Swarmd, workflow):
    text = "name: slow\narrays: {a: {command: 'for i in 1 2 3; do echo line $i; sleep 0.3; done'}}"
    path = workflow(text)
    process = threading.Thread(target=swarmd_process, args=("run", path, "--swarm-id", "slow"))
    process.start()
    until(lambda: swarmd("status", "slow", "--json").code == 0 and _running(swarmd, "slow"), "the task to run")
    answer = swarmd("logs", "slow", 1, "--follow")
    process.join()
    assert answer.out == "line 1\nline 2\nline 3\n"


def _running(swarmd: Swarmd, swarm_id: str) -> bool:
    return bool(swarmd("status", swarm_id, "--json").json["taskCounts"]["running"])


def test_watching_to_the_end_tells_every_change(swarmd: Swarmd, workflow):
    text = "name: watched\narrays: {a: {command: 'sleep 1'}, b: {command: 'true', after: [a]}}"
    path, watched = workflow(text), list[Answer]()
    run = threading.Thread(target=swarmd_process, args=("run", path, "--swarm-id", "watched"))
    run.start()
    until(lambda: swarmd("status", "watched").code == 0, "the swarm")
    watched.append(swarmd("watch", "watched", "--json", "--after-revision", 0))
    run.join()
    assert watched[0].code == 0
    events = watched[0].json_lines
    revisions = [int(event["revision"]) for event in events]
    assert revisions == sorted(revisions)
    told = [
        (task, group["status"])
        for event in events
        for group in event.get("change", {}).get("taskStatuses", [])
        for task in group["taskIds"]
    ]
    assert told.index(("1", "TASK_STATUS_DONE")) < [task for task, _ in told].index("2")
    assert events[-1]["end"] == {
        "reason": "REASON_FINISHED",
        "resumeRevision": events[-1]["end"]["resumeRevision"],
        "outcome": "SWARM_OUTCOME_DONE",
    }


def test_watching_a_finished_swarm_in_words(swarmd: Swarmd, failed_workflow):
    answer = swarmd("watch", failed_workflow)
    assert answer.code == 1
    assert "looked-at: 5 tasks: 2 wait, 2 done, 1 failed" in answer.out
    assert answer.out.endswith("finished: not all tasks are done\n")


def test_watching_goes_on_where_it_was(swarmd: Swarmd, failed_workflow):
    everything = swarmd("watch", failed_workflow, "--after-revision", 0, "--json").json_lines
    middle = int(everything[len(everything) // 2]["revision"])
    rest = swarmd("watch", failed_workflow, "--after-revision", middle, "--json").json_lines
    assert rest[:-1] == [event for event in everything[:-1] if int(event["revision"]) > middle]


def test_a_deleted_swarm_ends_its_watch(swarmd: Swarmd, workflow, daemon):
    path, answers = workflow(ENDLESS), list[Answer]()
    run = threading.Thread(target=swarmd_process, args=("run", path, "--swarm-id", "to-delete"))
    run.start()
    until(lambda: swarmd("status", "to-delete", "--json").code == 0, "the swarm")
    watch = threading.Thread(target=lambda: answers.append(swarmd_process("watch", "to-delete")))
    watch.start()
    until(lambda: _running(swarmd, "to-delete"), "the tasks")
    assert swarmd("delete", "to-delete").code == 4
    assert swarmd("delete", "to-delete", "--force").code == 0
    watch.join()
    run.join()
    assert answers[0].code == 4


def test_the_only_swarm_needs_no_name(workflow, home):
    with running("--local-cores", "2", home=home) as only:
        assert swarmd_process("run", workflow(FAILING), SWARMD_ADDRESS=only.address).code == 1
        assert "not all tasks are done" in swarmd_process("watch", SWARMD_ADDRESS=only.address).out
        assert swarmd_process("explain", "2", SWARMD_ADDRESS=only.address).code == 0
        assert swarmd_process("logs", "2", "-e", SWARMD_ADDRESS=only.address).out == "no [red]table[/red]\n"
        assert swarmd_process("has-work", SWARMD_ADDRESS=only.address).code == 1
        assert only.stop() == 0


def test_swarms_go_by_their_names_too(swarmd: Swarmd, daemon, tmp_path: Path):
    file = tmp_path / "flow.yaml"
    file.write_text("name: my 2nd study\narrays:\n  hello: {command: echo hello}\n")
    assert swarmd("run", file, "--swarm-id", "named-1").code == 0
    assert swarmd("status", "my 2nd study", "--json").json["swarmId"] == "named-1"
    assert swarmd("tasks", "my 2nd study", "--json").json["taskId"] == "1"
    assert swarmd("explain", "my 2nd study", 1).out.startswith("It is DONE")
    assert swarmd("logs", "my 2nd study", "hello").out == "hello\n"
    assert swarmd("watch", "my 2nd study").code == 0
    assert swarmd("has-work", "my 2nd study").out == "no: the swarm is finished\n"
    assert swarmd("tick", "my 2nd study").code == 0
    assert swarmd("cancel", "my 2nd study", "--all").out == "0 tasks cancelled; 1 had ended already\n"
    assert swarmd("pause", "my 2nd study").out == "named-1 is paused\n"
    assert swarmd("resume", "my 2nd study").out == "named-1 goes on\n"
    assert swarmd("run", file, "--swarm-id", "named-2").code == 0
    answer = swarmd("delete", "my 2nd study")
    words = "swarmd: 2 swarms are called 'my 2nd study'; give the id of one: named-1, named-2\n"
    assert (answer.code, answer.err) == (2, words)
    assert swarmd("delete", "named-1").out == "named-1 is deleted\n"
    assert swarmd("delete", "my 2nd study").out == "named-2 is deleted\n"
    answer = swarmd("reset", "my 2nd study", "--all")
    words = "swarmd: no swarm has the id or the name 'my 2nd study'; `swarmd status` lists them\n"
    assert (answer.code, answer.err) == (4, words)
