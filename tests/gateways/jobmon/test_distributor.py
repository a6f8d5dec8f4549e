"""`swarmd run --jobmon` and nothing else: Jobmon's own distributor is started, kept and ended by the daemon."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.gateways.jobmon.distributor import MARK, Mark, end_all
from swarmd.gateways.local.procfs import command_of
from tests.daemon import is_running, running, until
from tests.gateways.jobmon.real import Jobmon, Workflow
from tests.gateways.jobmon.test_real import WAIT_SECONDS, environment, home, is_status, swarmd_run

__all__ = ["home"]

pytestmark = pytest.mark.timeout(600)
"""The first test may have to install Jobmon."""

EMPTY = "/nonexistent"
"""A PATH on which there is no Python."""


@pytest.fixture(autouse=True)
def nothing_stays(jobmon: Jobmon) -> Iterator[None]:
    """What a test that failed has left is ended."""
    yield
    for (run_id,) in jobmon.rows("select id from workflow_run"):
        end_all(Mark(jobmon.url, run_id), [])


def distributors(jobmon: Jobmon, workflow: Workflow) -> list[int]:
    """The processes that lead a distributor which was started for this run by a daemon."""
    marked = Mark(jobmon.url, workflow.run_id).processes()
    return [pid for pid, group in marked if pid == group and b"jobmon.distributor.cli" in command_of(pid)]


def marked(jobmon: Jobmon, workflow: Workflow) -> list[int]:
    return [pid for pid, _ in Mark(jobmon.url, workflow.run_id).processes()]


def settings(jobmon: Jobmon, **others: object) -> dict[str, object]:
    """A daemon that finds Jobmon."""
    python = str(jobmon.venv / "bin" / "python")
    return {"distributor_python": python, "distributor_pass_seconds": 1, "distributor_wait_seconds": 1.0, **others}


def named(jobmon: Jobmon, workflow: Workflow) -> list[object]:
    return ["--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id]


def is_done(jobmon: Jobmon, workflow: Workflow) -> None:
    assert jobmon.run_status(workflow.run_id) == "D"
    assert set(jobmon.statuses(workflow).values()) == {"D"}
    assert set(jobmon.instances(workflow).values()) == {1}


@pytest.mark.parametrize("bound", [False, True])
def test_one_command_is_all_that_a_user_types(jobmon, home, bound):
    layers = [["echo first"] * 6, ["echo second"] * 3]
    workflow = jobmon.workflow(layers, cluster="multiprocess", bound=bound, lives_for=2 if bound else 60)
    command = ["--jobmon", workflow.run_id, "--server", jobmon.url]
    with swarmd_run(environment(home, **settings(jobmon)), home, *command) as run:
        assert run.wait() == 0, run.said
    assert f"jobmon run {workflow.run_id}: all 9 tasks done" in run.said
    assert "jobmon.distributor.cli" not in run.said
    is_done(jobmon, workflow)
    assert marked(jobmon, workflow) == []
    assert list((home / "state").rglob("distributor-*")) == []


def test_the_distributor_outlives_the_daemon_and_there_is_never_another(jobmon, home):
    workflow = jobmon.workflow([["sleep 2"] * 3, ["true"] * 3], cluster="multiprocess", bound=False)
    variables = environment(home, **settings(jobmon))
    with (
        running(home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow)) as run,
    ):
        until(lambda: "R" in jobmon.statuses(workflow).values(), "a task to run", WAIT_SECONDS)
        (first,) = distributors(jobmon, workflow)
        (said,) = (home / "state").rglob("distributor-*")
        assert stat.S_IMODE(said.stat().st_mode) == 0o600
        daemon.process.kill()
        run.process.kill()
        daemon.process.wait()
    assert distributors(jobmon, workflow) == [first]
    with running(home=home, environment=variables) as daemon:
        while jobmon.run_status(workflow.run_id) not in "DE":
            assert distributors(jobmon, workflow) in ([first], [])
        until(lambda: not marked(jobmon, workflow), "the distributor to end", WAIT_SECONDS)
        assert daemon.stop() == 0
    is_done(jobmon, workflow)


def test_a_daemon_that_closes_leaves_the_distributor_to_the_next(jobmon, home):
    workflow = jobmon.workflow([["sleep 3"]], cluster="multiprocess", bound=False)
    variables = environment(home, **settings(jobmon))
    with (
        running(home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow)) as run,
    ):
        until(lambda: "R" in jobmon.statuses(workflow).values(), "a task to run", WAIT_SECONDS)
        run.process.kill()
        assert daemon.stop() == 0
    assert len(distributors(jobmon, workflow)) == 1
    with running(home=home, environment=variables):
        is_status(jobmon, workflow, "D")
    is_done(jobmon, workflow)


def test_a_daemon_that_keeps_nothing_leaves_no_distributor(jobmon, home):
    workflow = jobmon.workflow([["sleep 300"]], cluster="multiprocess", bound=False)
    variables = environment(home, **settings(jobmon))
    with (
        running("--in-memory", home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow)) as run,
    ):
        until(lambda: "R" in jobmon.statuses(workflow).values(), "a task to run", WAIT_SECONDS)
        run.process.kill()
        assert daemon.stop() == 0
    assert marked(jobmon, workflow) == []


def test_a_distributor_of_the_users_is_left_alone(jobmon, home):
    workflow = jobmon.workflow([["true"] * 3], cluster="multiprocess")
    variables = environment(home, **settings(jobmon, distributor_wait_seconds=0.0))
    with (
        jobmon.distributor(workflow, "multiprocess") as own,
        swarmd_run(variables, home, *named(jobmon, workflow)) as run,
    ):
        assert run.wait() == 0, run.said
        assert own.poll() is None
    assert marked(jobmon, workflow) == []
    is_done(jobmon, workflow)


def test_a_run_that_was_bound_by_somebody_is_given_time_for_a_distributor_of_theirs(jobmon, home):
    workflow = jobmon.workflow([["true"] * 3], cluster="multiprocess")
    variables = environment(home, **settings(jobmon, distributor_wait_seconds=60.0))
    with swarmd_run(variables, home, *named(jobmon, workflow)) as run:
        until(lambda: "BOUND" in run.said, "the run to wait", WAIT_SECONDS)
        with jobmon.distributor(workflow, "multiprocess") as own:
            assert run.wait() == 0, run.said
            assert own.poll() is None
    assert marked(jobmon, workflow) == []
    is_done(jobmon, workflow)


def test_ctrl_c_ends_the_tasks_the_run_and_the_distributor(jobmon, home):
    workflow = jobmon.workflow([["sleep 300"] * 2], cluster="multiprocess", bound=False)
    with swarmd_run(environment(home, **settings(jobmon)), home, *named(jobmon, workflow)) as run:
        until(lambda: set(jobmon.statuses(workflow).values()) == {"R"}, "the tasks to run", WAIT_SECONDS)
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.said
    assert jobmon.run_status(workflow.run_id) == "S"
    assert set(jobmon.statuses(workflow).values()) == {"G"}
    assert marked(jobmon, workflow) == []  # nor a task


def test_a_distributor_that_dies_is_told_and_started_again(jobmon, home):
    workflow = jobmon.workflow([["sleep 1"] * 6, ["true"] * 2], cluster="multiprocess", bound=False, max_attempts=5)
    variables = environment(home, **settings(jobmon, launched_seconds=3.0))
    with (
        running(home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow)) as run,
    ):
        until(lambda: "R" in jobmon.statuses(workflow).values(), "a task to run", WAIT_SECONDS)
        (first,) = distributors(jobmon, workflow)
        os.kill(first, signal.SIGKILL)
        assert run.wait() == 0, run.said
        assert "Jobmon's distributor was ended by signal 9" in daemon.log
        until(lambda: not marked(jobmon, workflow), "the distributor to end", WAIT_SECONDS)
    assert jobmon.run_status(workflow.run_id) == "D"
    assert set(jobmon.statuses(workflow).values()) == {"D"}


def test_one_that_died_while_no_daemon_was_there_is_followed_by_another(jobmon, home):
    workflow = jobmon.workflow([["sleep 1"] * 6], cluster="multiprocess", bound=False, max_attempts=5)
    variables = environment(home, **settings(jobmon, launched_seconds=1.0))
    with (
        running(home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow)) as run,
    ):
        until(lambda: "R" in jobmon.statuses(workflow).values(), "a task to run", WAIT_SECONDS)
        (first,) = distributors(jobmon, workflow)
        daemon.process.kill()
        run.process.kill()
        daemon.process.wait()
    os.kill(first, signal.SIGKILL)
    until(lambda: not is_running(first), "its end")
    with running(home=home, environment=variables):
        is_status(jobmon, workflow, "D", "E")
        until(lambda: not marked(jobmon, workflow), "the distributor to end", WAIT_SECONDS)
    assert set(jobmon.statuses(workflow).values()) == {"D"}


def test_tasks_of_a_run_that_is_resumed_hot_go_on_without_its_distributor(jobmon, home):
    workflow = jobmon.workflow([[f"while ! test -e {home}/end; do sleep 0.1; done"], ["true"]], cluster="multiprocess")
    first, second = workflow.task_ids
    with swarmd_run(environment(home, **settings(jobmon)), home, *named(jobmon, workflow)) as run:
        until(lambda: jobmon.statuses(workflow)[first] == "R", "the task to run", WAIT_SECONDS)
        jobmon.post(f"/workflow/{workflow.workflow_id}/set_resume", reset_running_jobs=False)
        assert run.wait() == 1, run.said
    assert jobmon.run_status(workflow.run_id) == "T"
    until(lambda: not distributors(jobmon, workflow), "the distributor to end", WAIT_SECONDS)
    assert jobmon.statuses(workflow) == {first: "R", second: "G"}
    (home / "end").touch()
    until(lambda: jobmon.statuses(workflow)[first] == "D", "the task to be done", WAIT_SECONDS)
    until(lambda: not marked(jobmon, workflow), "all to be over", WAIT_SECONDS)


def test_a_swarm_that_is_deleted_takes_its_distributor_along(jobmon, home):
    workflow = jobmon.workflow([["sleep 300"]], cluster="multiprocess", bound=False)
    variables = environment(home, **settings(jobmon))
    with (
        running(home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow), "--swarm-id", "s") as run,
    ):
        until(lambda: "R" in jobmon.statuses(workflow).values(), "a task to run", WAIT_SECONDS)
        run.process.kill()
        delete = [sys.executable, "-m", "swarmd", "delete", "s", "--force"]
        subprocess.run(delete, env=daemon.environment, check=True, capture_output=True)
        assert marked(jobmon, workflow) == []
    assert jobmon.run_status(workflow.run_id) == "S"


def test_a_run_does_not_stay_running_without_the_distributor_that_was_started_for_it(jobmon, home):
    """Nothing was queued of it; the next daemon would take it for one that somebody else has a distributor for."""
    workflow = jobmon.workflow([["true"]], bound=False, limit=0)
    variables = environment(home, **settings(jobmon))
    with (
        running(home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow), "--swarm-id", "s") as run,
    ):
        is_status(jobmon, workflow, "R")
        run.process.kill()
        delete = [sys.executable, "-m", "swarmd", "delete", "s", "--force"]
        subprocess.run(delete, env=daemon.environment, check=True, capture_output=True)
        assert marked(jobmon, workflow) == []
        assert list((home / "state").rglob("distributor-*")) == []
    assert jobmon.run_status(workflow.run_id) in "SE"
    assert set(jobmon.instances(workflow).values()) == {0}


def test_a_distributor_that_cannot_work_is_told_with_its_last_words(jobmon, home, tmp_path):
    """Here a Python that has the module, and whose distributor says why it ends."""
    package = tmp_path / "jobmon" / "distributor"
    package.mkdir(parents=True)
    (package / "cli.py").write_text("import sys; sys.exit('no such plug-in: ' + sys.argv[3])")
    workflow = jobmon.workflow([["true"]], bound=False)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    variables = environment(home, **settings(jobmon, distributor_python=str(python)))
    with swarmd_run(variables, home, *named(jobmon, workflow), "--swarm-id", "s") as run:
        words = "Jobmon's distributor ended with exit code 1: no such plug-in: sequential; it is started again"
        until(lambda: words in run.said, f"{words}: {run.said}", WAIT_SECONDS)
        explain = [sys.executable, "-m", "swarmd", "explain", "s", str(workflow.task_ids[0])]
        told = subprocess.run(explain, env=variables, check=True, capture_output=True, text=True)
        assert words in " ".join(told.stdout.split())
        assert jobmon.run_status(workflow.run_id) == "B"


def test_where_there_is_no_jobmon_the_command_to_type_is_told_and_the_reason(jobmon, home):
    workflow = jobmon.workflow([["true"] * 2], bound=False)
    variables = {**environment(home), "PATH": EMPTY}
    with swarmd_run(variables, home, *named(jobmon, workflow)) as run:
        is_status(jobmon, workflow, "B")
        with jobmon.distributor(workflow):
            assert run.wait() == 0, run.said
    assert (
        "no distributor is started: Jobmon's distributor cannot be started here: no Python that has Jobmon" in run.said
    )
    command = f"python -m jobmon.distributor.cli start --cluster_name sequential --workflow_run_id {workflow.run_id}"
    assert command in run.said
    is_done(jobmon, workflow)


def test_one_distributor_would_take_the_tasks_of_every_cluster(jobmon, home):
    """Why none is started for a run whose tasks ask for two clusters: the server tells each of all tasks."""
    workflow = jobmon.workflow([["true"], ["true"]], chained=False)
    other = jobmon.workflow([["true"]], cluster="dummy")
    first, second = workflow.task_ids
    for task_id, array_id, resources_id in (
        (first, workflow.array_ids[0], workflow.resources_id),
        (second, workflow.array_ids[1], other.resources_id),
    ):
        body = {"task_ids": [task_id], "task_resources_id": resources_id, "workflow_run_id": workflow.run_id}
        jobmon.post(f"/array/{array_id}/queue_task_batch", **body, cluster_id=1)
    answer = jobmon.post(f"/workflow_run/{workflow.run_id}/sync_status", task_instance_ids=[], status="Q")
    assert len(answer["status_updates"]["Q"]) == 2

    query = "update task set task_resources_id = ? where id = ?"
    two = jobmon.workflow([["true"], ["true"]], bound=False)
    jobmon.change(query, other.resources_id, two.task_ids[1])
    with swarmd_run(environment(home, **settings(jobmon)), home, *named(jobmon, two)) as run:
        until(lambda: "waits for Jobmon's distributor" in run.said, "the words", WAIT_SECONDS)
        assert "its tasks ask for the clusters dummy, sequential, and Jobmon's distributor serves one" in run.said
        is_status(jobmon, two, "B")
        assert marked(jobmon, two) == []


def test_what_belongs_to_the_daemon_is_not_told_to_the_distributor(jobmon, home):
    workflow = jobmon.workflow([["sleep 300"]], bound=False, cluster="multiprocess")
    secret = {"SWARMD_TOKEN": "a-secret-of-the-daemons", "JOBMON__HTTP__SERVICE_URL": "http://elsewhere"}
    variables = environment(home, **settings(jobmon))
    with (
        running(home=home, environment={**variables, **secret}) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *named(jobmon, workflow)),
    ):
        until(lambda: distributors(jobmon, workflow), "a distributor", WAIT_SECONDS)
        (pid,) = distributors(jobmon, workflow)
        told = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line)
        assert "SWARMD_TOKEN" not in told
        assert told["JOBMON__HTTP__SERVICE_URL"] == jobmon.url
        assert told["JOBMON__HTTP__ROUTE_PREFIX"] == ""
        assert told["JOBMON__HEARTBEAT__WORKFLOW_RUN_INTERVAL"] == "1"
        assert told["PATH"].startswith(f"{jobmon.venv}/bin:")
        assert told[MARK] == f"{workflow.run_id}@{jobmon.url}"
        assert is_running(pid)
    assert json.dumps(marked(jobmon, workflow)) == "[]"
