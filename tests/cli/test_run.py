"""`swarmd run` from beginning to end, with a real daemon that is there or that it starts."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swarmd.cli.main import execute
from tests.cli.conftest import ENDLESS, FAILING, SMALL, Swarmd, daemons_below, swarmd_process
from tests.daemon import running, until

RECORDED = {
    "name": "recorded",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"name": "split_ID001", "id": "1", "parents": [], "children": ["2"]},
                {"name": "join_ID002", "id": "2", "parents": ["1"], "children": []},
            ]
        },
        "execution": {"tasks": [{"id": "1", "runtimeInSeconds": 9}, {"id": "2", "runtimeInSeconds": 9}]},
    },
}


def test_a_workflow_that_ends_well(swarmd: Swarmd, workflow):
    answer = swarmd("run", workflow(SMALL))
    assert answer.code == 0
    assert "small: all 4 tasks done in" in answer.out
    assert "first       3     3" in answer.out
    assert "look again  swarmd status small-" in answer.out


def test_a_workflow_that_fails_tells_which_task_and_why(swarmd: Swarmd, workflow):
    answer = swarmd("run", workflow(FAILING), "--swarm-id", "failing")
    assert answer.code == 1
    assert "failing: not finished after" in answer.out
    failed = next(line for line in answer.out.splitlines() if line.startswith("first_1"))
    assert "exit code 3 no [red]table[/red]" in failed
    assert failed.split()[1] == "2"  # attempts
    assert Path(failed.split()[-1]).read_text() == "no [red]table[/red]\n"
    assert "2 tasks never ran" in answer.out


def test_the_summary_in_json(swarmd: Swarmd, workflow):
    answer = swarmd("run", workflow(FAILING), "--json")
    assert answer.code == 1
    assert answer.json["swarm"]["taskCounts"]["done"] == 2
    assert answer.json["swarm"]["outcome"] == "SWARM_OUTCOME_ERROR"
    assert answer.json["swarm"]["blockedCount"] == 2
    assert [task["name"] for task in answer.json["failedTasks"]] == ["first_1"]
    assert Path(answer.json["failedTasks"][0]["errPath"]).exists()


def test_no_output_is_shown_of_a_task_that_never_began(swarmd: Swarmd, workflow):
    answer = swarmd(
        "run", workflow("name: big\narrays:\n  big: {command: 'true', resources: {cores: 100000}}\n"), "--json"
    )
    assert answer.code == 1
    [task] = answer.json["failedTasks"]
    assert (task["status"], task["errPath"]) == ("TASK_STATUS_ERROR_FATAL", "")


def test_options_win_over_the_file(swarmd: Swarmd, workflow):
    options = ["--name", "other", "-j", "2", "--fail-fast", "--swarm-id", "chosen-id"]
    options += ["--scheduling-policy", "fair_share"]
    swarm = swarmd("run", workflow(SMALL), *options, "--json").json["swarm"]
    assert (swarm["displayName"], swarm["maxConcurrentlyRunning"]) == ("other", 2)
    assert (swarm["failFast"], swarm["swarmId"]) == (True, "chosen-id")
    assert swarm["schedulingPolicy"] == "SCHEDULING_POLICY_FAIR_SHARE"


def test_the_policy_of_the_file_is_that_of_the_swarm_and_status_shows_it(swarmd: Swarmd, workflow):
    text = f"scheduling_policy: longest_path_first\n{SMALL}"
    swarmd("run", workflow(text), "--swarm-id", "by-path")
    assert "longest_path_first" in swarmd("status", "by-path").out
    swarmd("run", workflow(SMALL), "--swarm-id", "plain")
    assert "policy " not in swarmd("status", "plain").out


def test_tasks_run_beside_the_file_with_the_callers_path(swarmd: Swarmd, workflow, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    text = "name: place\narrays: {a: {command: 'pwd > where; echo $PATH > path'}}"
    assert swarmd("run", workflow(text)).code == 0
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)
    assert (tmp_path / "path").read_text().startswith(f"{tmp_path}/bin:")


def test_a_swarm_id_that_is_taken_is_refused_by_the_daemon(swarmd: Swarmd, workflow):
    assert swarmd("run", workflow(SMALL), "--swarm-id", "taken").code == 0
    again = swarmd("run", workflow(SMALL), "--swarm-id", "taken")
    assert again.code == 4
    assert again.err.startswith("swarmd: ")
    assert "taken" in again.err


def test_options_for_the_engine_reach_it_and_it_refuses_those_that_it_does_not_know(swarmd: Swarmd, workflow):
    answer = swarmd("run", workflow(SMALL), "--swarm-id", "refused", "--gateway-option", "speed=3")
    assert answer.code == 4
    assert "'speed' is no option of gateway 'local'" in answer.err
    assert "refused" not in [swarm["swarmId"] for swarm in swarmd("status", "--json").json["swarms"]]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["speed"], "'speed' is not KEY=VALUE"),
        (["=3"], "'=3' is not KEY=VALUE"),
        (["a=1", "a=2"], "'a' is given twice"),
    ],
)
def test_options_for_the_engine_are_keys_with_values(swarmd: Swarmd, workflow, given, why):
    answer = swarmd("run", workflow(SMALL), *(word for each in given for word in ("--gateway-option", each)))
    assert answer.code == 2
    assert why in answer.err


def test_a_load_that_is_refused_leaves_no_swarm(swarmd: Swarmd, workflow):
    text = "name: big\narrays: {a: {command: 'true', count: 3}}\n"
    answer = swarmd("run", workflow(text), "--gateway", "nowhere", "--swarm-id", "refused")
    assert answer.code == 4
    assert "nowhere" in answer.err
    assert "refused" not in [swarm["swarmId"] for swarm in swarmd("status", "--json").json["swarms"]]


def test_a_recorded_workflow_is_replayed_in_the_callers_folder(swarmd: Swarmd, tmp_path, monkeypatch):
    (tmp_path / "recorded.json").write_text(json.dumps(RECORDED))
    monkeypatch.chdir(tmp_path)
    answer = swarmd("run", "--wfformat", "recorded.json", "--time-scale", "0.01", "--json")
    assert answer.code == 0
    assert answer.json["swarm"]["workingDirectory"] == str(tmp_path)
    assert [array["name"] for array in answer.json["swarm"]["arrays"]] == ["split", "join"]


def test_a_replay_by_longest_paths_states_the_recorded_runtimes(swarmd: Swarmd, tmp_path, monkeypatch):
    (tmp_path / "recorded.json").write_text(json.dumps(RECORDED))
    monkeypatch.chdir(tmp_path)
    options = ("--time-scale", "0.01", "--scheduling-policy", "longest_path_first", "--keep", "--swarm-id", "recorded")
    answer = swarmd("run", "--wfformat", "recorded.json", *options, "--json")
    assert answer.code == 0
    assert answer.json["swarm"]["schedulingPolicy"] == "SCHEDULING_POLICY_LONGEST_PATH_FIRST"
    asked = swarmd("explain", "recorded", "1", "--json").json
    assert '"runtime": "544s"' in json.dumps(asked)  # sixty times nine seconds, rounded up


def test_it_starts_a_daemon_when_there_is_none_and_leaves_nothing_behind(home, workflow):
    answer = swarmd_process("run", workflow(SMALL), "--local-cores", "2")
    assert answer.code == 0, answer.err
    assert "small: all 4 tasks done" in answer.out
    assert "look again" not in answer.out
    assert list((home / "runtime" / "swarmd").iterdir()) == []
    state = home / "state" / "swarmd"
    kept = ["format", "lock", "logs", "swarms", "token", "token.read-only"]
    assert sorted(path.name for path in state.iterdir()) == kept
    assert list((state / "swarms").iterdir()) == []
    assert swarmd_process("status").code == 3


def test_progress_is_told_in_plain_lines_when_nobody_looks(home, workflow):
    answer = swarmd_process("run", workflow("name: slow\narrays: {a: {command: 'sleep 1.5', count: 2}}"))
    assert answer.code == 0
    assert "swarmd: 0:01  0 of 2 done" in answer.err
    assert "\x1b" not in answer.err + answer.out


def test_kept_swarms_stay_with_their_daemon(home, workflow):
    assert swarmd_process("run", workflow(SMALL), "--keep", "--swarm-id", "kept").code == 0
    swarm = swarmd_process("status", "kept", "--json").json
    assert swarm["outcome"] == "SWARM_OUTCOME_DONE"
    (daemon,) = daemons_below(home)
    os.kill(daemon, signal.SIGTERM)
    until(lambda: not daemons_below(home), "the daemon's end")


def test_a_private_socket_is_used_when_the_default_cannot_be(home, workflow, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / ("long" * 30)))
    assert "choose a shorter one" in swarmd_process("status").err
    answer = swarmd_process("run", workflow(SMALL))
    assert answer.code == 0, answer.err


def test_a_daemon_that_cannot_start_says_why_and_names_its_log(home, workflow, monkeypatch):
    monkeypatch.setenv("SWARMD_MAX_SWARMS", "0")
    answer = swarmd_process("run", workflow(SMALL))
    assert answer.code == 3
    assert "the daemon could not start; its log is " in answer.err
    assert "SWARMD_MAX_SWARMS" in answer.err
    log = answer.err.split("its log is ")[1].splitlines()[0]
    assert Path(log).exists()


def test_a_daemon_that_dies_is_told_with_its_log(home, workflow):
    arguments = [sys.executable, "-m", "swarmd", "run", str(workflow(ENDLESS.replace("600", "5")))]
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "0 of 3 done" in process.stderr.readline()
        (daemon,) = daemons_below(home)
        os.kill(daemon, signal.SIGKILL)
        said = process.stderr.read()
    assert process.returncode == 3
    assert said.startswith("swarmd: the connection to the daemon at unix:")
    log, goes_on = said.split("its log is ")[1].split("; ")
    assert Path(log).exists()
    assert goes_on.startswith("`swarmd serve` goes on with the workflow")
    with running(home=home) as another:
        (swarm,) = swarmd_process("status", "--json", **another.environment).json["swarms"]
        status = ("status", swarm["swarmId"])
        until(lambda: "3 tasks: 3 done" in swarmd_process(*status, **another.environment).out, "the end of the run")


def test_nothing_is_started_for_a_file_that_cannot_be_used(home, tmp_path):
    assert execute(["run", str(tmp_path / "no.yaml")]) == 2
    assert list((home / "state").iterdir()) == []


def test_tasks_are_left_or_killed_when_a_daemon_of_a_detached_run_is_stopped(home, workflow):
    """The choice of `swarmd run --on-stop` reaches the daemon that it starts."""
    from swarmd.cli.run.own_daemon import OwnDaemon

    for on_stop in ("kill", "leave"):
        command = OwnDaemon(on_stop=on_stop).command
        assert command[command.index("--on-stop") + 1] == on_stop
    answer = swarmd_process("run", workflow(SMALL), "--on-stop", "leave")
    assert answer.code == 0, answer.err
    assert swarmd_process("run", workflow(SMALL), "--on-stop", "wait").code == 2
