"""The real Jobmon: its server 3.2.2 over SQLite, its distributor, and workflows made by plain HTTP."""

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 240.0

APP = """
import pymysql
pymysql.install_as_MySQLdb()
import sqlalchemy
from sqlalchemy import event
from jobmon.server.web.api import get_app

@event.listens_for(sqlalchemy.engine.Engine, "connect")
def patient(connection, record):
    connection.execute("PRAGMA busy_timeout=20000")
    connection.execute("PRAGMA synchronous=OFF")

app = get_app()
"""


class NoJobmonError(Exception):
    """Jobmon's server cannot be had here."""


def environment() -> Path:
    """The environment that has Jobmon in it. Raises NoJobmonError."""
    script = ROOT / "scripts" / "jobmon_environment.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoJobmonError(done.stderr.strip().splitlines()[-1])
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class Workflow:
    """A workflow as it was made."""

    workflow_id: int
    run_id: int
    task_ids: list[int]
    array_ids: list[int]
    resources_id: int
    templates: list[tuple[int, str]]
    """Of each array: the template's version, and its argument."""


@dataclass
class Jobmon:
    """A server that runs, and what is in it."""

    url: str
    venv: Path
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(int(time.time() * 1000)))
    _tool: int = 0

    # -- plain calls -----------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        answer = httpx.request(
            method, self.url + path, content=content, headers=headers, timeout=60, verify=False, trust_env=False
        )
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def post(self, path: str, **body: object) -> Any:
        return self.call("POST", path, body)

    def put(self, path: str, **body: object) -> Any:
        return self.call("PUT", path, body)

    def run_status(self, run_id: int) -> str:
        (status,) = self.rows("select status from workflow_run where id = ?", run_id)[0]
        return str(status)

    def set_run_status(self, run_id: int, *statuses: str) -> None:
        for status in statuses:
            assert self.put(f"/workflow_run/{run_id}/update_status", status=status)["status"] == status

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Straight from the server's database."""
        with contextlib.closing(sqlite3.connect(self.folder / "jobmon.sqlite", timeout=20)) as database:
            return database.execute(query, values).fetchall()

    def change(self, query: str, *values: object) -> None:
        """Straight in the server's database."""
        with contextlib.closing(sqlite3.connect(self.folder / "jobmon.sqlite", timeout=20)) as database:
            database.execute(query, values)
            database.commit()

    def statuses(self, workflow: Workflow) -> dict[int, str]:
        return dict(self.rows("select id, status from task where workflow_id = ?", workflow.workflow_id))

    def instances(self, workflow: Workflow) -> dict[int, int]:
        """How many task instances each task has."""
        query = """select task.id, count(task_instance.id) from task
            left join task_instance on task_instance.task_id = task.id where task.workflow_id = ? group by task.id"""
        return dict(self.rows(query, workflow.workflow_id))

    # -- workflows -------------------------------------------------------------------------------------------------

    def workflow(
        self,
        layers: Sequence[Sequence[str]],
        *,
        cluster: str = "sequential",
        queue: str = "null.q",
        max_attempts: int = 3,
        limit: int = 10_000,
        array_limit: int = 10_000,
        resources: Mapping[str, object] | None = None,
        scales: Mapping[str, object] | None = None,
        fallback_queues: Sequence[str] = (),
        bound: bool = True,
        lives_for: float = 60,
        chained: bool = True,
    ) -> Workflow:
        """Make one: every task of a layer waits for all of the layer before, unless they are not `chained`.

        With a run, which is BOUND unless told, and whose first heartbeat holds for `lives_for` seconds.
        """
        tool = self.post("/tool", name=f"tool {next(self._numbers)}")["tool"][0]
        tool_version = self.post("/tool_version", tool_id=tool)["tool_version"][0]
        arrays = []
        templates = [self._template(tool_version, f"layer {number}") for number in range(len(layers))]
        nodes = [self._nodes(template, commands) for template, commands in zip(templates, layers, strict=True)]
        dag = self.post("/dag", dag_hash=str(next(self._numbers)))["dag_id"]
        self.post(f"/dag/{dag}/edges", edges_to_add=_edges(nodes, chained=chained), mark_created=True)
        workflow = self.post(
            "/workflow",
            tool_version_id=tool_version,
            dag_id=dag,
            workflow_args_hash=str(next(self._numbers)),
            task_hash=str(next(self._numbers)),
            description="",
            name="made by a test",
            workflow_args="",
            max_concurrently_running=limit,
            workflow_attributes={},
        )["workflow_id"]
        resources_id = self._bind(cluster, queue, resources or {"cores": 1, "memory": 1, "runtime": 60})
        for number, (template, _) in enumerate(templates):
            array = self.post(
                "/array",
                task_template_version_id=template,
                workflow_id=workflow,
                max_concurrently_running=array_limit,
                name=f"array {number}",
            )
            arrays.append(array["array_id"])
        rows = {
            f"{node}": self._row(node, array, resources_id, command, max_attempts, scales, fallback_queues)
            for layer, array, commands in zip(nodes, arrays, layers, strict=True)
            for node, command in zip(layer, commands, strict=True)
        }
        bound_tasks = self._bind_tasks(workflow, rows)
        run = self.post(
            "/workflow_run", workflow_id=workflow, user="u", jobmon_version="3.2.2", next_report_increment=lives_for
        )["workflow_run_id"]
        if bound:
            self.set_run_status(run, "B")
        return Workflow(workflow, run, bound_tasks, arrays, resources_id, templates)

    def add_tasks(self, workflow: Workflow, commands: Sequence[str], max_attempts: int) -> list[int]:
        """More tasks for the first array, which depend on nothing."""
        nodes, array = self._nodes(workflow.templates[0], commands), workflow.array_ids[0]
        rows = {
            f"{node}": self._row(node, array, workflow.resources_id, command, max_attempts)
            for node, command in zip(nodes, commands, strict=True)
        }
        return self._bind_tasks(workflow.workflow_id, rows)

    def _nodes(self, template: tuple[int, str], commands: Sequence[str]) -> list[int]:
        version, argument = template
        hashes = [str(next(self._numbers)) for _ in commands]
        asked = [
            {"task_template_version_id": version, "node_args_hash": each, "node_args": {argument: command}}
            for each, command in zip(hashes, commands, strict=True)
        ]
        made = self.post("/nodes", nodes=asked)["nodes"]
        return [made[f"{version}:{each}"] for each in hashes]

    def _row(
        self,
        node: int,
        array: int,
        resources_id: int,
        command: str,
        max_attempts: int,
        scales: Mapping[str, object] | None = None,
        fallback_queues: Sequence[str] = (),
    ) -> list[object]:
        name, task_args_hash = f"task {node}", str(next(self._numbers))
        attempts = [name, command, max_attempts, False, dict(scales or {}), list(fallback_queues)]
        return [node, task_args_hash, array, resources_id, *attempts]

    def _template(self, tool_version: int, name: str) -> tuple[int, str]:
        template = self.post("/task_template", tool_version_id=tool_version, task_template_name=name)
        version = self.post(
            f"/task_template/{template['task_template_id']}/add_version",
            command_template="{arg}",
            arg_mapping_hash=str(next(self._numbers)),
            node_args=["arg"],
            task_args=[],
            op_args=[],
        )["task_template_version"]
        return version[0], str(version[5]["arg"])

    def _bind(self, cluster: str, queue: str, resources: Mapping[str, object]) -> int:
        cluster_id = self.call("GET", f"/cluster/{cluster}")["cluster"][0]
        queue_id = self.call("GET", f"/cluster/{cluster_id}/queue/{queue}")["queue"][0]
        return int(
            self.post(
                "/task/bind_resources",
                queue_id=queue_id,
                task_resources_type_id="O",
                requested_resources=dict(resources),
            )
        )

    def _bind_tasks(self, workflow: int, rows: Mapping[str, list[object]]) -> list[int]:
        keys, ids = list(rows), []
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            last = start + 500 >= len(keys)
            body = {"workflow_id": workflow, "mark_created": last, "tasks": {key: rows[key] for key in part}}
            made = self.call("PUT", "/task/bind_tasks_no_args", body)["tasks"]
            ids += [made[key][0] for key in part]
        return ids

    def add_queue(self, name: str, cluster: str, parameters: str) -> None:
        """Queues are made by administrators, in the database."""
        (cluster_id,) = self.rows("select id from cluster where name = ?", cluster)[0]
        self.change("insert into queue (name, cluster_id, parameters) values (?, ?, ?)", name, cluster_id, parameters)

    # -- the distributor -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def distributor(self, workflow: Workflow, cluster: str = "sequential") -> Iterator["subprocess.Popen[str]"]:
        """Jobmon's own distributor for the run of a workflow, alive; ended with the block."""
        port = self.url.rpartition(":")[2]
        settings = {
            "JOBMON__HTTP__SERVICE_URL": f"http://127.0.0.1:{port}",
            "JOBMON__HTTP__ROUTE_PREFIX": "",
            "JOBMON__HEARTBEAT__WORKFLOW_RUN_INTERVAL": "1",
            "JOBMON__HEARTBEAT__TASK_INSTANCE_INTERVAL": "3",
            "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}",
        }
        command = [str(self.venv / "bin" / "python"), "-m", "jobmon.distributor.cli", "start"]
        command += ["--cluster_name", cluster, "--workflow_run_id", str(workflow.run_id)]
        log = self.folder / f"distributor-{workflow.run_id}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command,
                env={**os.environ, **settings},
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self.folder,
                start_new_session=True,
                text=True,
            )
        try:
            _until(lambda: "ALIVE" in log.read_text(errors="replace"), process, log)
            yield process
        finally:
            _end(process)

    @contextlib.contextmanager
    def running(self, workflow: Workflow, cluster: str = "sequential") -> Iterator[None]:
        """The distributor, and the run RUNNING already."""
        with self.distributor(workflow, cluster):
            self.set_run_status(workflow.run_id, "R")
            yield


def _edges(layers: Sequence[Sequence[int]], *, chained: bool) -> list[dict[str, object]]:
    edges = []
    for place, layer in enumerate(layers):
        before = list(layers[place - 1]) if chained and place else []
        after = list(layers[place + 1]) if chained and place + 1 < len(layers) else []
        edges += [{"node_id": node, "upstream_node_ids": before, "downstream_node_ids": after} for node in layer]
    return edges


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Jobmon]:
    """A server with an empty database, gone at the end. Raises NoJobmonError."""
    venv = environment()
    (folder / "app.py").write_text(APP)
    uri = f"sqlite:///{folder / 'jobmon.sqlite'}"
    variables = {**os.environ, "JOBMON__DB__SQLALCHEMY_DATABASE_URI": uri, "PYTHONWARNINGS": "ignore"}
    program = str(venv / "bin" / "python")
    made = [program, "-c", "import app; from jobmon.server.cli import main; main('init_db')"]
    subprocess.run(made, env=variables, cwd=folder, check=True, capture_output=True, timeout=START_SECONDS)
    with contextlib.closing(sqlite3.connect(folder / "jobmon.sqlite")) as database:
        database.execute("PRAGMA journal_mode=WAL")
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-m", "flask", "--app", "app:app", "run", "-h", "127.0.0.1", "-p", str(port)],
            env=variables,
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
            text=True,
        )
    jobmon = Jobmon(f"http://127.0.0.1:{port}", venv, folder)
    try:
        _until(lambda: _answers(jobmon), process, log)
        yield jobmon
    finally:
        _end(process)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _answers(jobmon: Jobmon) -> bool:
    try:
        return bool(jobmon.call("GET", "/health"))
    except (httpx.HTTPError, AssertionError):
        return False


def _until(condition: Any, process: "subprocess.Popen[str]", log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not condition():
        assert process.poll() is None, f"it ended: {log.read_text(errors='replace')[-2000:]}"
        assert time.monotonic() < until, f"it does not get ready: {log.read_text(errors='replace')[-2000:]}"
        select.select([], [], [], 0.05)


def _end(process: "subprocess.Popen[str]") -> None:
    """It, and what it started: both are in a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
