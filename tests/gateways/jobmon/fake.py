"""A stand-in for Jobmon's server that speaks the same HTTP, keeps everything in memory, and fails where it is told to.

For what the real one cannot be made to do at the right moment, and for what the newer servers do differently, which
are not to be had: routes below a prefix, a version in the query, ids as text without it, connections dropped after an
error.
"""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from swarmd.gateways.jobmon.life import FOLLOWING

Handler = Callable[..., Any]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    def add(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", pattern)), handler))
        return handler

    return add


@dataclass
class FakeTask:
    array_id: int = 7
    status: str = "G"
    stamped: str = ""
    num_attempts: int = 0
    max_attempts: int = 3
    command: str = "true"
    resources: list[int] = field(default_factory=list)
    """What each instance was queued with."""


@dataclass
class FakeWorkflow:
    tasks: dict[int, FakeTask] = field(default_factory=dict)
    downstreams: dict[int, list[int]] = field(default_factory=dict)
    limit: int = 10_000


@dataclass
class FakeRun:
    workflow_id: int
    status: str = "R"
    heartbeats: list[float] = field(default_factory=list)


class Fault(Exception):  # noqa: N818 (no error of the test)
    """Instead of an answer: a status with a body, or a connection that is cut off after so many bytes."""

    def __init__(self, status: int = 0, kind: str = "", *, cut_after: int = 0, does_it: bool = False) -> None:
        super().__init__(kind)
        self.status = status
        self.kind = kind
        self.cut_after = cut_after
        self.does_it = does_it
        """The call is carried out all the same."""


class FakeJobmon:
    """One server. `faults` are taken off one by one for calls whose path contains their key."""

    def __init__(self, *, prefix: str = "", newer: bool = False) -> None:
        self.prefix = prefix
        self.newer = newer
        self.url = ""
        self.workflows: dict[int, FakeWorkflow] = {}
        self.runs: dict[int, FakeRun] = {}
        self.queues: dict[str, str] = {"null.q": "{}"}
        self.array_limits: dict[int, int] | None = None
        self.bound: list[dict[str, Any]] = []
        self.calls: list[tuple[str, Any]] = []
        self.terminated: list[int] = []
        self.faults: dict[str, list[Fault]] = {}
        self.before: Callable[[str, Any], Awaitable[None]] | None = None
        self.runs_tasks = False
        self.tells_workflows = True
        self.dropped_connections = 0
        self._work: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    # -- what is in it ---------------------------------------------------------------------------------------------

    def add_run(self, run_id: int, workflow_id: int, task_ids: Any = (), status: str = "R") -> FakeWorkflow:
        workflow = self.workflows.setdefault(workflow_id, FakeWorkflow())
        for task_id in task_ids:
            workflow.tasks[task_id] = FakeTask(stamped=self.time())
        self.runs[run_id] = FakeRun(workflow_id, status)
        return workflow

    def task(self, task_id: int) -> FakeTask:
        return next(workflow.tasks[task_id] for workflow in self.workflows.values() if task_id in workflow.tasks)

    def set(self, status: str, *task_ids: int, stamped_ago: float = 0) -> None:
        for task_id in task_ids:
            task = self.task(task_id)
            task.status, task.stamped = status, self.time(-stamped_ago)

    def statuses(self, workflow_id: int = 1) -> dict[int, str]:
        return {task_id: task.status for task_id, task in self.workflows[workflow_id].tasks.items()}

    def instances(self, task_id: int) -> int:
        return len(self.task(task_id).resources)

    def paths(self, part: str) -> list[Any]:
        return [body for path, body in self.calls if part in path]

    def time(self, seconds: float = 0) -> str:
        return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")

    # -- the run ---------------------------------------------------------------------------------------------------

    def _run(self, run_id: str) -> FakeRun:
        run = self.runs.get(int(run_id))
        if run is None:
            raise Fault(500, "<class 'sqlalchemy.exc.NoResultFound'>" if not self.newer else "NoResultFound")
        return run

    @route("PUT", "/workflow_run/<run>/update_status")
    def _update_status(self, body: Any, run: str) -> Any:
        found = self._run(run)
        if body["status"] in FOLLOWING.get(found.status, ""):
            found.status = body["status"]
        return {"status": found.status}

    @route("POST", "/workflow_run/<run>/log_heartbeat")
    def _heartbeat(self, body: Any, run: str) -> Any:
        found = self._run(run)
        if body["status"] in FOLLOWING.get(found.status, "") or (
            body["status"] == found.status and found.status in "RL"
        ):
            found.status = body["status"]
            found.heartbeats.append(asyncio.get_running_loop().time())
        return {"status": found.status}

    @route("POST", "/workflow_run/<run>/set_status_for_triaging")
    def _triage(self, body: Any, run: str) -> Any:
        self._run(run)
        return {}

    @route("PUT", "/workflow_run/<run>/terminate_task_instances")
    def _terminate(self, body: Any, run: str) -> Any:
        found = self._run(run)
        self.terminated.append(int(run))
        killed = "O" if found.status == "H" else "OR"
        for task_id, task in self.workflows[found.workflow_id].tasks.items():
            if task.status in killed:
                self.set("F", task_id)
        return {}

    @route("GET", "/lost_workflow_run")
    def _lost_runs(self, body: Any) -> Any:
        if not self.tells_workflows:
            raise Fault(404)
        return {"workflow_runs": [[run_id, run.workflow_id] for run_id, run in self.runs.items()]}

    # -- the workflow ----------------------------------------------------------------------------------------------

    @route("GET", "/workflow/<workflow>/fetch_workflow_metadata")
    def _metadata(self, body: Any, workflow: str) -> Any:
        found = self.workflows.get(int(workflow))
        return {"workflow": [] if found is None else [int(workflow), 3, found.limit]}

    @route("GET", "/workflow/get_tasks/<workflow>")
    def _tasks(self, body: Any, workflow: str, max_task_id: str, chunk_size: str) -> Any:
        tasks = sorted(self.workflows[int(workflow)].tasks.items())
        wanted = [(task_id, task) for task_id, task in tasks if task_id > int(max_task_id) and task.status != "D"]
        return {
            "tasks": {
                str(task_id): [
                    task.array_id,
                    task.status,
                    task.max_attempts,
                    "{'memory': 0.5}",
                    "['big.q']",
                    '{"cores": 1, "memory": 2, "runtime": 60}',
                    "fake",
                    "null.q",
                    100,
                ]
                for task_id, task in wanted[: int(chunk_size)]
            }
        }

    @route("POST", "/task/get_downstream_tasks")
    def _downstreams(self, body: Any, **query: str) -> Any:
        found = {}
        for workflow in self.workflows.values():
            for task_id in workflow.tasks:
                after: Any = [100 + each for each in workflow.downstreams.get(task_id, ())]
                if self.newer and "client_jobmon_version" not in query:
                    after = json.dumps(after)
                found[str(task_id)] = [100 + task_id, after]
        return {"downstream_tasks": {key: found[key] for key in map(str, body["task_ids"])}}

    @route("GET", "/workflow/<workflow>/get_max_concurrently_running")
    def _limit(self, body: Any, workflow: str) -> Any:
        return {"max_concurrently_running": self.workflows[int(workflow)].limit}

    @route("GET", "/array/<array>/get_array_max_concurrently_running")
    def _array_limit(self, body: Any, array: str) -> Any:
        if self.array_limits is None:
            raise Fault(404)
        return {"max_concurrently_running": self.array_limits[int(array)]}

    @route("POST", "/workflow/<workflow>/task_status_updates")
    def _status_updates(self, body: Any, workflow: str) -> Any:
        since = body.get("last_sync", "")
        groups: dict[str, list[int]] = {}
        for task_id, task in self.workflows[int(workflow)].tasks.items():
            if task.stamped >= since:
                groups.setdefault(task.status, []).append(task_id)
        return {"tasks_by_status": groups, "time": self.time()}

    # -- queueing --------------------------------------------------------------------------------------------------

    @route("GET", "/cluster/<cluster>")
    def _cluster(self, body: Any, cluster: str) -> Any:
        return {"cluster": [2, cluster, "fake", None] if cluster in ("", "fake") else None}

    @route("GET", "/cluster/<cluster>/queue/<queue>")
    def _queue(self, body: Any, cluster: str, queue: str) -> Any:
        known = self.queues.get(queue)
        return {"queue": None if known is None else [list(self.queues).index(queue) + 1, queue, known]}

    @route("POST", "/task/bind_resources")
    def _bind(self, body: Any) -> Any:
        self.bound.append(body)
        return len(self.bound)

    @route("POST", "/array/<array>/queue_task_batch")
    def _queue_batch(self, body: Any, array: str) -> Any:
        run = self._run(str(body["workflow_run_id"]))
        tasks = self.workflows[run.workflow_id].tasks
        groups: dict[str, list[int]] = {}
        for task_id in body["task_ids"]:
            if task_id not in tasks:
                continue
            task = tasks[task_id]
            was_queueable = task.status in "GA"
            if was_queueable:
                task.status, task.stamped = "Q", self.time()
                task.num_attempts += 1
            if task.status == "Q" and (was_queueable or not self.newer):  # 3.2.2: every repeat makes one more
                task.resources.append(body["task_resources_id"])
                if self.runs_tasks:
                    self._start(self._execute(task_id, tasks))
            groups.setdefault(task.status, []).append(task_id)
        return {"tasks_by_status": groups}

    @route("PUT", "/task/update_statuses")
    def _update_statuses(self, body: Any) -> Any:
        for task_id in body["task_ids"]:
            self.task(task_id).status = body["new_status"]  # without a new stamp
        return "updated"

    @route("GET", "/task/<task>/most_recent_ti_error")
    def _last_error(self, body: Any, task: str) -> Any:
        return {"error_description": f"task {task} said no", "task_instance_id": 1}

    async def _execute(self, task_id: int, tasks: dict[int, FakeTask]) -> None:
        task = tasks[task_id]
        for status in "IOR":
            await asyncio.sleep(0.02)
            if task.status not in "QIO":
                return
            task.status, task.stamped = status, self.time()
        await asyncio.sleep(0.02)
        if task.status == "R" and task.command in ("true", "false"):
            failed = "F" if task.num_attempts >= task.max_attempts else "G"
            task.status, task.stamped = "D" if task.command == "true" else failed, self.time()

    # -- HTTP ------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. Gives whether the connection can take another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(content) if content else None
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        cut, keeps = 0, headers.get("connection", "").lower() != "close"
        try:
            assert headers.get("content-type") == "application/json", "3.2.2 wants it with every request"
            status, answer = 200, await self._answer(method, parts.path, body, query)
        except Fault as fault:
            status, answer, cut = fault.status, {"error": {"type": fault.kind, "exception_message": "told to"}}, -1
            cut = fault.cut_after if fault.status == 0 else 0
            if fault.status == 0 and not cut:
                return False
            if fault.does_it and fault.cut_after:
                answer = self._handle(method, parts.path, body, query)
            status = status or 200
        text = json.dumps(answer).encode()
        said = (
            f"HTTP/1.1 {status} said\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode()
        )
        writer.write((said + text)[:cut] if cut else said + text)
        await writer.drain()
        if cut:
            return False
        if self.newer and status >= 400:
            self.dropped_connections += 1
            return False
        return keeps

    async def _answer(self, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        self.calls.append((path, body))
        if self.before is not None:
            await self.before(path, body)
        for part, faults in self.faults.items():
            if part in path and faults:
                fault = faults.pop(0)
                if fault.does_it and not fault.cut_after:
                    self._handle(method, path, body, query)
                raise fault
        return self._handle(method, path, body, query)

    def _handle(self, method: str, path: str, body: Any, query: dict[str, str]) -> Any:
        if not path.startswith(self.prefix):
            raise Fault(404)
        for known, pattern, handler in ROUTES:
            found = pattern.fullmatch(path.removeprefix(self.prefix))
            if known == method and found:
                takes_query = handler.__name__ in ("_tasks", "_downstreams")
                given = query if takes_query else {}
                if handler.__name__ == "_tasks":
                    given = {name: query[name] for name in ("max_task_id", "chunk_size")}
                return handler(self, body, **found.groupdict(), **given)
        raise Fault(404)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    @contextlib.asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["FakeJobmon"]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            for task in self._work:
                task.cancel()
            listening.close()
            for writer in list(self._writers):
                writer.close()
            await asyncio.sleep(0)
