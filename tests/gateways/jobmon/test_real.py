"""Against Jobmon's server itself, with its own distributor, from `swarmd run --jobmon` to its database."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from swarmd.cli.main import execute
from tests.daemon import private_environment, running, short_home, until
from tests.gateways.jobmon.conftest import QUICK
from tests.gateways.jobmon.proxy import FaultyProxy
from tests.gateways.jobmon.real import Jobmon, Workflow

END_SECONDS = 240.0
WAIT_SECONDS = 120.0

pytestmark = pytest.mark.timeout(600)
"""The first test may have to install Jobmon."""


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as path:
        yield path


def environment(home: Path, **settings: object) -> dict[str, str]:
    """Directories of one's own, and a config file with quick settings."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**QUICK, **settings}.items()]
    (home / "swarmd.toml").write_text("\n".join(["[gateways.jobmon]", *lines, ""]))
    return {**private_environment(home), "SWARMD_CONFIG": str(home / "swarmd.toml")}


@pytest.fixture
def here(home, monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Calls `swarmd run` in this process, for what needs no daemon. Gives the exit code and all that it said."""
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object) -> tuple[int, str]:
        code = int(execute(["run", *map(str, arguments)]))
        answer = capsys.readouterr()
        return code, answer.out + answer.err

    return call


class Run:
    """`swarmd run` as a process."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait(self) -> int:
        return self.process.wait(END_SECONDS)


@contextlib.contextmanager
def swarmd_run(variables: Mapping[str, str], home: Path, *arguments: object) -> Iterator[Run]:
    log = home / "said"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "swarmd", "run", *map(str, arguments)],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        yield Run(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_status(jobmon: Jobmon, workflow: Workflow, *statuses: str) -> None:
    until(lambda: jobmon.run_status(workflow.run_id) in statuses, "the server to say so", WAIT_SECONDS)


def test_a_workflow_from_beginning_to_end_by_its_run_alone(jobmon, home):
    workflow = jobmon.workflow([["echo first"] * 6, ["echo second"] * 3], bound=False)
    chosen = ("--jobmon", workflow.run_id, "--server", jobmon.url, "--no-distributor")
    with swarmd_run(environment(home), home, *chosen) as run:
        is_status(jobmon, workflow, "B")
        with jobmon.distributor(workflow):
            assert run.wait() == 0, run.said
    assert f"jobmon run {workflow.run_id}: all 9 tasks done" in run.said
    assert "waits for Jobmon's distributor" in run.said
    assert jobmon.run_status(workflow.run_id) == "D"
    assert set(jobmon.statuses(workflow).values()) == {"D"}
    assert set(jobmon.instances(workflow).values()) == {1}


def test_what_fails_is_tried_again_and_what_fails_for_good_is_told_with_its_words(jobmon, home):
    flaky = [f"test -e {home}/{number} || {{ touch {home}/{number}; exit 1; }}" for number in range(2)]
    workflow = jobmon.workflow(
        [[*flaky, "echo no such luck >&2; exit 3"], ["true"]], cluster="multiprocess", max_attempts=2
    )
    with (
        swarmd_run(
            environment(home),
            home,
            "--jobmon",
            workflow.run_id,
            "--server",
            jobmon.url,
            "--workflow",
            workflow.workflow_id,
            "--no-distributor",
        ) as run,
        jobmon.distributor(workflow, "multiprocess"),
    ):
        assert run.wait() == 1, run.said
    assert "no such luck" in run.said
    assert "1 task never ran" in run.said
    assert jobmon.run_status(workflow.run_id) == "E"
    assert [jobmon.statuses(workflow)[each] for each in workflow.task_ids] == ["D", "D", "F", "G"]
    assert [jobmon.instances(workflow)[each] for each in workflow.task_ids] == [2, 2, 2, 0]


@pytest.mark.parametrize("seed", [1, 2])
def test_through_a_bad_network_every_task_has_one_instance(jobmon, home, seed):
    """Delays, resets, half answers, answers and requests that come twice, calls that arrive when they were given up."""
    workflow = jobmon.workflow([["true"] * 3] * 25, cluster="dummy", chained=False)
    settings = {"queue_timeout_seconds": 10.0, "doubt_seconds": 6.0, "full_sync_seconds": 5.0}

    async def through_proxy() -> tuple[FaultyProxy, Run]:
        async with FaultyProxy(int(jobmon.url.rpartition(":")[2]), seed=seed, share=0.4).serving() as proxy:
            arguments = ("--jobmon", workflow.run_id, "--server", proxy.url, "--workflow", workflow.workflow_id)
            with swarmd_run(environment(home, **settings), home, *arguments) as run:
                await asyncio.to_thread(run.wait)
            return proxy, run

    with jobmon.running(workflow, "dummy"):
        proxy, run = asyncio.run(through_proxy())
    assert run.process.returncode == 0, run.said
    assert sum(count for what, count in proxy.done.items() if what.startswith("queue") and "plain" not in what) > 2
    assert set(jobmon.statuses(workflow).values()) == {"D"}
    assert set(jobmon.instances(workflow).values()) == {1}
    assert jobmon.run_status(workflow.run_id) == "D"


def test_a_daemon_that_is_killed_goes_on_where_it_was(jobmon, home):
    workflow = jobmon.workflow([["sleep 1"] * 4, ["true"] * 4], cluster="multiprocess")
    variables = environment(home)
    arguments = ["--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id]
    with jobmon.running(workflow, "multiprocess"):
        with (
            running(home=home, environment=variables) as daemon,
            swarmd_run({**variables, **daemon.environment}, home, *arguments) as run,
        ):
            until(lambda: "R" in jobmon.statuses(workflow).values(), "a task to run", WAIT_SECONDS)
            daemon.process.kill()
            run.process.kill()
            daemon.process.wait()
        with running(home=home, environment=variables) as daemon:
            is_status(jobmon, workflow, "D", "E")
            assert daemon.stop() == 0
    assert set(jobmon.statuses(workflow).values()) == {"D"}
    assert set(jobmon.instances(workflow).values()) == {1}


def test_ctrl_c_ends_the_tasks_and_stops_the_run(jobmon, home):
    workflow = jobmon.workflow([["sleep 300"] * 2], cluster="multiprocess")
    arguments = ("--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id)
    with (
        jobmon.running(workflow, "multiprocess"),
        swarmd_run(environment(home), home, *arguments) as run,
    ):
        until(lambda: set(jobmon.statuses(workflow).values()) == {"R"}, "the server to say so", WAIT_SECONDS)
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.said
        assert set(jobmon.statuses(workflow).values()) == {"G"}  # to be resumed some day
        assert jobmon.run_status(workflow.run_id) == "S"
        query = "select distinct status from task_instance where workflow_run_id = ?"
        until(
            lambda: {status for (status,) in jobmon.rows(query, workflow.run_id)} <= {"K", "F"},
            "the server to say so",
            30,
        )


def test_a_run_that_somebody_wants_to_resume_is_let_go_of(jobmon, home):
    workflow = jobmon.workflow([["sleep 300"] * 2, ["true"]], cluster="multiprocess")
    arguments = ("--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id)
    with (
        jobmon.running(workflow, "multiprocess"),
        swarmd_run(environment(home), home, *arguments) as run,
    ):
        until(lambda: set(jobmon.statuses(workflow).values()) == {"R", "G"}, "the server to say so", WAIT_SECONDS)
        jobmon.post(f"/workflow/{workflow.workflow_id}/set_resume", reset_running_jobs=True)
        assert run.wait() == 1, run.said
    assert jobmon.run_status(workflow.run_id) == "T"
    assert "Jobmon's server says that the run is over: the run's status is TERMINATED" in run.said
    assert jobmon.call("GET", f"/workflow/{workflow.workflow_id}/is_resumable")["workflow_is_resumable"]


def test_a_task_that_ran_out_gets_more_and_moves_to_a_queue_that_can_hold_it(jobmon, home):
    """The test is the distributor: none of those that come with Jobmon knows resources to run out of."""
    for name, gib in (("small.q", 3), ("large.q", 64)):
        jobmon.add_queue(f"{name}{os.getpid()}", "dummy", f"{{'memory': (1, {gib}), 'cores': (1, 4)}}")
    workflow = jobmon.workflow(
        [["true"]],
        cluster="dummy",
        queue=f"small.q{os.getpid()}",
        resources={"cores": 1, "memory": 2, "runtime": 60, "project": "p"},
        scales={"memory": 0.5, "runtime": 1.0},
        fallback_queues=["nowhere.q", f"large.q{os.getpid()}"],
        max_attempts=4,
    )
    jobmon.set_run_status(workflow.run_id, "I", "O", "R")
    (task_id,) = workflow.task_ids
    arguments = ("--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id)
    with swarmd_run(environment(home), home, *arguments) as run:
        for _ in range(2):
            until(lambda: jobmon.statuses(workflow)[task_id] == "Q", "the server to say so", WAIT_SECONDS)
            run_instance(jobmon, workflow, error_state="Z")
        until(lambda: jobmon.statuses(workflow)[task_id] == "Q", "the server to say so", WAIT_SECONDS)
        run_instance(jobmon, workflow)
        assert run.wait() == 0, run.said
    query = """select queue.name, task_resources.task_resources_type_id, task_resources.requested_resources
        from task_instance join task_resources on task_resources.id = task_instance.task_resources_id
        join queue on queue.id = task_resources.queue_id where task_id = ? order by task_instance.id"""
    rows = [(queue.rstrip("0123456789"), kind, json.loads(asked)) for queue, kind, asked in jobmon.rows(query, task_id)]
    assert rows == [
        ("small.q", "O", {"cores": 1, "memory": 2, "runtime": 60, "project": "p"}),
        ("small.q", "A", {"cores": 1, "memory": 3, "runtime": 120, "project": "p"}),
        ("large.q", "A", {"cores": 1, "memory": 4.5, "runtime": 240, "project": "p"}),
    ]


def run_instance(jobmon: Jobmon, workflow: Workflow, *, error_state: str = "") -> None:
    """What distributor and worker do with the newest instance of the workflow's only task."""
    ((instance, batch),) = jobmon.rows(
        "select id, array_batch_num from task_instance where task_id = ? order by id desc limit 1", workflow.task_ids[0]
    )
    jobmon.post("/task_instance/instantiate_task_instances", task_instance_ids=[instance])
    array = workflow.array_ids[0]
    jobmon.post(f"/array/{array}/transition_to_launched", batch_number=batch, next_report_increment=60)
    jobmon.post(f"/task_instance/{instance}/log_running", process_group_id=1, next_report_increment=60)
    if error_state:
        said = {"error_state": error_state, "error_description": "out of memory"}
        jobmon.post(f"/task_instance/{instance}/log_error_worker_node", **said)
    else:
        jobmon.post(f"/task_instance/{instance}/log_done")


async def test_the_workflows_limit_is_followed_when_it_changes(jobmon, drive):
    workflow = jobmon.workflow([["true"]], limit=7)
    jobmon.set_run_status(workflow.run_id, "I", "O", "R")
    driven = await drive(jobmon.url, workflow)

    def limits() -> list[int | None]:
        return [update.max_concurrently_running for _, update in driven.record.updates]

    await driven.record.until(lambda: 7 in limits())
    await asyncio.to_thread(
        jobmon.put, f"/workflow/{workflow.workflow_id}/update_max_concurrently_running", max_tasks=3
    )
    await driven.record.until(lambda: 3 in limits())


def test_a_run_whose_tasks_are_done_has_nothing_left(jobmon, here):
    workflow = jobmon.workflow([["true"]])
    jobmon.change("update task set status = 'D' where workflow_id = ?", workflow.workflow_id)
    code, said = here("--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id)
    assert code == 0
    assert "all tasks were done before" in said
    assert jobmon.run_status(workflow.run_id) == "D"


def test_a_run_whose_tasks_are_done_is_told_as_json_too(jobmon, here):
    workflow = jobmon.workflow([["true"]])
    jobmon.change("update task set status = 'D' where workflow_id = ?", workflow.workflow_id)
    code, said = here("--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id, "--json")
    assert code == 0
    answer = json.loads(said)
    assert answer["failedTasks"] == []
    assert answer["swarm"]["outcome"] == "SWARM_OUTCOME_DONE"
    assert answer["swarm"]["workflowRunStatus"] == "WORKFLOW_RUN_STATUS_DONE"


def test_what_goes_on_already_is_taken_over(jobmon, home):
    """A run after a hot resume: one task runs, one waits at the distributor, one is new, one ran out, one is done."""
    workflow = jobmon.workflow([["true"] * 5], cluster="dummy", max_attempts=3, scales={"memory": 1.0})
    jobmon.set_run_status(workflow.run_id, "I", "O", "R")
    runs, waits, new, ran_out, done = workflow.task_ids
    body = {"task_ids": [runs, waits, ran_out, done], "task_resources_id": workflow.resources_id}
    jobmon.post(
        f"/array/{workflow.array_ids[0]}/queue_task_batch", workflow_run_id=workflow.run_id, cluster_id=1, **body
    )
    for task_id, status in ((runs, "R"), (ran_out, "A"), (done, "D")):
        jobmon.change("update task set status = ? where id = ?", status, task_id)
    arguments = ("--jobmon", workflow.run_id, "--server", jobmon.url, "--workflow", workflow.workflow_id)
    with swarmd_run(environment(home), home, *arguments) as run:
        until(
            lambda: jobmon.statuses(workflow)[new] == "Q" and jobmon.statuses(workflow)[ran_out] == "Q",
            "the server to say so",
            60,
        )
        for task_id in (runs, waits, new, ran_out):
            jobmon.change("update task set status = 'D', status_date = datetime('now') where id = ?", task_id)
        assert run.wait() == 0, run.said
    assert [jobmon.instances(workflow)[task_id] for task_id in workflow.task_ids] == [1, 1, 1, 2, 1]
    query = """select requested_resources from task_resources join task_instance
        on task_resources.id = task_resources_id where task_id = ? and task_resources_type_id = 'A'"""
    assert [json.loads(asked)["memory"] for (asked,) in jobmon.rows(query, ran_out)] == [2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobmon", "1"], "--server http://HOST:PORT"),
        (["--jobmon", "1", "--server", "nowhere"], "is no URL of a server"),
        (["--server", "http://h:1", "flow.yaml"], "--server: this is about --jobmon"),
        (["--no-distributor", "flow.yaml"], "--no-distributor: this is about --jobmon"),
        (["--jobmon", "1", "--server", "http://h:1", "-j", "3"], "leave out -j"),
        (["--jobmon", "1", "--server", "http://h:1", "--local-cores", "3"], "leave out --local-cores"),
        (["--jobmon", "1", "--server", "http://h:1", "--gateway", "slurm"], "leave out --gateway"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(here, arguments, words):
    code, said = here(*arguments)
    assert code == 2
    assert words in said


def test_a_server_that_is_not_there_is_told_soon(here, monkeypatch):
    monkeypatch.setattr("swarmd.cli.run.jobmon.FIRST_PATIENCE_SECONDS", 0.2)
    code, said = here("--jobmon", 1, "--server", "http://127.0.0.1:9")
    assert code == 2
    assert "http://127.0.0.1:9 cannot be reached" in said
    assert "look whether --server is right" in said


def test_a_run_that_cannot_be_had_is_told(jobmon, here):
    code, said = here("--jobmon", 99_999, "--server", jobmon.url)
    assert code == 4
    assert "run 99999 cannot be had" in said
    workflow = jobmon.workflow([["true"]])
    named = ("--jobmon", workflow.run_id, "--server", jobmon.url)
    jobmon.set_run_status(workflow.run_id, "I", "O", "R")
    code, said = here(*named, "--workflow", workflow.workflow_id + 1)
    assert code == 4
    assert f"belongs to workflow {workflow.workflow_id}, not to {workflow.workflow_id + 1}" in said
    jobmon.set_run_status(workflow.run_id, "S")
    code, said = here(*named)
    assert code == 4
    assert f"run {workflow.run_id} is STOPPED: nothing can be run in it any more" in said
