"""`swarmd run --jobmon`: the workflow of a run that exists at Jobmon's server, as a plan that can be loaded.

Tasks that are DONE stay behind, and so does what depends on them only. What goes on there already comes first, so that
the limits count it before anything new is queued; the gateway takes it over.
"""

import asyncio
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from swarmd._pb.swarm.v1 import swarm_pb2
from swarmd.cli.errors import ExitCode, NotThereError, UsageError
from swarmd.cli.output import note, print_json, print_line
from swarmd.cli.run.session import Report
from swarmd.cli.run.summary import summary_data
from swarmd.core.errors import UnavailableError
from swarmd.core.model import Array, QueueLimits, Task, TaskResources
from swarmd.core.queues import Queues, adjusted
from swarmd.core.status import TaskStatus
from swarmd.gateways.catalogue import GatewayContext
from swarmd.gateways.jobmon import life
from swarmd.gateways.jobmon.failures import CallError, NoRouteError, RefusedError
from swarmd.gateways.jobmon.finding import told_workflow, workflow_of
from swarmd.gateways.jobmon.http import insist
from swarmd.gateways.jobmon.resources import KIND, queue_limits, resource_scales, task_resources
from swarmd.gateways.jobmon.server import JobmonServer, KnownTask, WorkflowFacts
from swarmd.gateways.jobmon.settings import JobmonSettings, RunOptions, checked_prefix, checked_server, missing
from swarmd.workflow.plan import WorkflowPlan

CHUNK_TASKS = 500
FIRST_PATIENCE_SECONDS, PATIENCE_SECONDS = 5.0, 30.0
"""How long a call is tried again: the first, which shows whether there is such a server at all, and every other."""
FIRST_PRIORITY = 1
"""Of what the server has already; everything else has 0."""
GOES_ON = "QIORE"


@dataclass(frozen=True, slots=True)
class JobmonRun:
    """The run that the user names."""

    workflow_run_id: int
    server: str
    workflow_id: int | None = None
    route_prefix: str = ""
    client_version: str = ""


@dataclass(frozen=True, slots=True)
class FetchedRun:
    """What was found of it."""

    plan: WorkflowPlan
    options: RunOptions
    status: str
    """The run's, when everything was fetched."""

    def with_distributor(self, *, wanted: bool) -> "FetchedRun":
        """The same, with Jobmon's distributor to be started for it; says so when that cannot be, or is not wanted.

        One distributor takes every task of its run, whatever cluster the task asks for.
        """
        clusters = sorted({each.cluster for each in self.plan.task_resources})
        if wanted and len(clusters) == 1:
            return replace(self, options=replace(self.options, distributor_cluster=clusters[0]))
        if self.status in life.WAITING:
            several = f"its tasks ask for the clusters {', '.join(clusters)}, and Jobmon's distributor serves one"
            note(waits_for_distributor(str(self.options.workflow_run_id), clusters[0], several if wanted else ""))
        return self

    def tell_that_nothing_is_left(self, *, as_json: bool) -> ExitCode:
        """Say that every task is DONE already. Gives the exit code."""
        code = ExitCode.OK if self.status == "D" else ExitCode.NOT_DONE
        if as_json:
            status = f"WORKFLOW_RUN_STATUS_{life.in_words(self.status)}"
            swarm = swarm_pb2.Swarm(display_name=self.plan.name, gateway="jobmon", workflow_run_status=status)
            swarm.outcome = swarm_pb2.SWARM_OUTCOME_DONE
            swarm.gateway_options.update(self.options.as_options())
            print_json(summary_data(Report(swarm, 0.0)))
            return code
        run = f"run {self.options.workflow_run_id} of workflow {self.options.workflow_id}"
        print_line(f"{run}: all tasks were done before; the run is {life.in_words(self.status)}")
        return code


def waits_for_distributor(run_id: str, cluster: str, why: str = "") -> str:
    """What somebody has to do who starts the distributor, by choice or because it could not be started (`why`)."""
    return (
        f"{f'no distributor is started: {why}; ' if why else ''}run {run_id} waits for Jobmon's distributor; "
        "if none was started since the run was bound: python -m jobmon.distributor.cli start "
        f"--cluster_name {shlex.quote(cluster)} --workflow_run_id {run_id}"
    )


def checked_run(
    run_id: int, server: str | None, workflow_id: int | None, route_prefix: str, client_version: str
) -> JobmonRun:
    """The run that the options name. Raises UsageError and InvalidInputError."""
    if not server:
        raise UsageError("--jobmon: say where Jobmon's server is: --server http://HOST:PORT")
    return JobmonRun(
        run_id,
        checked_server(server, "--server"),
        workflow_id,
        checked_prefix(route_prefix, "--route-prefix"),
        client_version,
    )


def fetch(run: JobmonRun) -> FetchedRun:
    """Ask the server for the workflow. Raises SwarmdError: UnavailableError, NotThereError, InvalidInputError."""
    lacking = missing()
    if lacking:
        raise UsageError(f"--jobmon: {lacking}")
    from swarmd.settings import resolve

    found = resolve({})
    context = GatewayContext("jobmon", found.config.gateways.get("jobmon", {}), found.sources["gateways"])
    return asyncio.run(_fetched(run, context.read(JobmonSettings)))


async def _fetched(run: JobmonRun, settings: JobmonSettings) -> FetchedRun:
    server = JobmonServer.at(
        f"{run.server}{run.route_prefix}",
        client_version=run.client_version,
        ca_file=settings.ca_file,
        seconds=settings.call_timeout_seconds,
    )
    await server.open()
    try:
        return await _Fetching(server, run, settings).to_the_end()
    except RefusedError as error:
        raise NotThereError(f"run {run.workflow_run_id} cannot be had: {error}") from error
    except CallError as error:
        look = "" if isinstance(error, NoRouteError) else "; look whether --server is right, and whether it runs there"
        raise UnavailableError(f"{error}{look}", reason="ENGINE_UNAVAILABLE") from error
    finally:
        await server.close()


class _Fetching:
    """One run on its way here; it is kept alive meanwhile."""

    def __init__(self, server: JobmonServer, run: JobmonRun, settings: JobmonSettings) -> None:
        self._server = server
        self._run = run
        self._settings = settings
        self._beat_at = 0.0
        self._status = ""

    async def to_the_end(self) -> FetchedRun:
        run = self._run
        self._status = await insist(
            lambda: self._server.run_status(run.workflow_run_id), seconds=FIRST_PATIENCE_SECONDS
        )
        if self._status in life.OVER or self._status in life.RESUMING:
            message = f"run {run.workflow_run_id} is {life.in_words(self._status)}: nothing can be run in it any more"
            raise NotThereError(message)
        workflow_id = await self._workflow_id()
        facts = await insist(lambda: self._server.workflow(workflow_id), seconds=PATIENCE_SECONDS)
        if facts is None:
            raise NotThereError(f"--workflow: {self._server.url} has no workflow {workflow_id}")
        tasks = await self._tasks(facts.workflow_id)
        edges = await self._edges(facts.dag_id, [task.task_id for task in tasks])
        queues = await self._queues(tasks)
        plan = plan_of(run, facts, tasks, edges, queues)
        options = RunOptions(run.server, run.workflow_run_id, workflow_id, run.route_prefix, run.client_version)
        if not tasks:
            await self._leave_as_done()
        return FetchedRun(plan, options, self._status)

    async def _workflow_id(self) -> int:
        """The run's workflow: asked for, or checked as far as the server tells."""
        run_id, named = self._run.workflow_run_id, self._run.workflow_id
        if named is None:
            return await workflow_of(self._server, run_id, self._settings, self._waits)
        try:
            found = await insist(
                lambda: told_workflow(self._server, run_id, self._status, self._settings), seconds=PATIENCE_SECONDS
            )
        except NoRouteError:
            return named
        if found not in (None, named):
            raise NotThereError(f"--workflow: run {run_id} belongs to workflow {found}, not to {named}")
        return named

    def _waits(self) -> None:
        note(
            f"asking Jobmon's server which workflow run {self._run.workflow_run_id} belongs to: it tells when the last "
            "heartbeat of the run is over, in a minute or two; --workflow ID saves the wait"
        )

    async def _beat(self) -> None:
        """Keep the run alive, if it is time."""
        now = asyncio.get_running_loop().time()
        if now < self._beat_at:
            return
        self._beat_at = now + self._settings.heartbeat_seconds
        self._status = await insist(
            lambda: self._server.heartbeat(
                self._run.workflow_run_id,
                life.heartbeat_status(self._status),
                lives_for=self._settings.heartbeat_seconds * self._settings.heartbeat_buffer,
                seconds=self._settings.heartbeat_timeout_seconds,
            ),
            seconds=PATIENCE_SECONDS,
        )

    async def _tasks(self, workflow_id: int) -> list[KnownTask]:
        tasks: list[KnownTask] = []
        while True:
            await self._beat()
            after = tasks[-1].task_id if tasks else 0
            chunk = await insist(
                lambda after=after: self._server.tasks(workflow_id, after=after, most=CHUNK_TASKS),  # type: ignore[misc]
                seconds=PATIENCE_SECONDS,
            )
            tasks += chunk
            if len(chunk) < CHUNK_TASKS:
                return tasks

    async def _edges(self, dag_id: int, task_ids: Sequence[int]) -> dict[int, list[int]]:
        """The upstreams of each task, as far as they are among these."""
        nodes: dict[int, tuple[int, list[int]]] = {}
        for start in range(0, len(task_ids), CHUNK_TASKS):
            await self._beat()
            chunk = task_ids[start : start + CHUNK_TASKS]
            nodes |= await insist(
                lambda chunk=chunk: self._server.downstreams(dag_id, chunk),  # type: ignore[misc]
                seconds=PATIENCE_SECONDS,
            )
        return upstreams_of(nodes)

    async def _queues(self, tasks: Iterable[KnownTask]) -> dict[tuple[str, str], QueueLimits]:
        """What each queue can hold that a task may ask for; those that the server does not know are missing."""
        wanted = dict.fromkeys((task.cluster, task.queue) for task in tasks)
        for cluster, names in dict.fromkeys((task.cluster, task.fallback_queues) for task in tasks):
            fallbacks = task_resources(0, cluster, "", "{}", names).fallback_queues
            wanted |= dict.fromkeys((cluster, name) for name in fallbacks)
        found = {}
        for cluster, queue in wanted:
            facts = await insist(
                lambda cluster=cluster, queue=queue: self._server.queue_facts(cluster, queue),  # type: ignore[misc]
                seconds=PATIENCE_SECONDS,
            )
            if facts is not None:
                found[cluster, queue] = queue_limits(cluster, queue, facts.parameters)
        return found

    async def _leave_as_done(self) -> None:
        """There is nothing to run: the run is taken to its end."""
        for status in life.way(self._status, "D"):
            self._status = await insist(
                lambda status=status: self._server.set_run_status(self._run.workflow_run_id, status),  # type: ignore[misc]
                seconds=PATIENCE_SECONDS,
            )


def upstreams_of(nodes: dict[int, tuple[int, list[int]]]) -> dict[int, list[int]]:
    """Upstream tasks by task, from each task's node and the nodes after it."""
    task_of = {node: task_id for task_id, (node, _) in nodes.items()}
    upstreams: dict[int, list[int]] = {}
    for task_id, (_, after) in nodes.items():
        for node in after:
            if node in task_of:
                upstreams.setdefault(task_of[node], []).append(task_id)
    return upstreams


def plan_of(
    run: JobmonRun,
    facts: WorkflowFacts,
    tasks: Sequence[KnownTask],
    upstreams: dict[int, list[int]],
    queues: dict[tuple[str, str], QueueLimits],
) -> WorkflowPlan:
    """What the swarm is to be loaded with. Raises InvalidInputError for resources that nobody can read."""
    arrays: dict[int, Array] = {}
    resources = _Resources(queues)
    loaded = []
    for task in tasks:
        if task.array_id not in arrays:
            limit = None if task.array_limit is None else max(0, task.array_limit)
            arrays[task.array_id] = Array(task.array_id, f"array {task.array_id}", limit)
        loaded.append(
            Task(
                task.task_id,
                task.array_id,
                resources.of(task),
                upstream_task_ids=tuple(upstreams.get(task.task_id, ())),
                status=TaskStatus.ERROR_FATAL if task.status == "F" else TaskStatus.REGISTERED,
                max_attempts=max(1, task.max_attempts),
                priority=FIRST_PRIORITY if task.status in GOES_ON else 0,
                resource_scales=resources.scales(task),
            )
        )
    return WorkflowPlan(
        f"jobmon run {run.workflow_run_id}",
        max_concurrently_running=max(0, facts.max_concurrently_running),
        arrays=list(arrays.values()),
        task_resources=resources.made,
        tasks=loaded,
    )


@dataclass
class _Resources:
    """The distinct resources of all tasks."""

    queues: dict[tuple[str, str], QueueLimits]
    made: list[TaskResources] = field(default_factory=list)
    _numbers: dict[tuple[str, ...], int] = field(default_factory=dict)
    _scales: dict[str, dict[str, float]] = field(default_factory=dict)

    def of(self, task: KnownTask) -> int:
        """The id of what a task asks for."""
        ran_out = task.status == "A"
        key = (task.cluster, task.queue, task.resources, task.fallback_queues, task.scales if ran_out else "")
        if key not in self._numbers:
            number = self._numbers[key] = len(self.made) + 1
            self.made.append(self._made(number, task, ran_out=ran_out))
        return self._numbers[key]

    def _made(self, number: int, task: KnownTask, *, ran_out: bool) -> TaskResources:
        asked = task_resources(number, task.cluster, task.queue, task.resources, task.fallback_queues)
        known = tuple(queue for queue in asked.fallback_queues if (task.cluster, queue) in self.queues)
        asked = replace(asked, fallback_queues=known)
        if not ran_out:
            return asked
        limits = Queues()
        limits.tell(self.queues.values())
        grown = adjusted(asked, self.scales(task), limits)
        return replace(grown, extra={**grown.extra, KIND: "A"})

    def scales(self, task: KnownTask) -> dict[str, float]:
        """By how much its resources grow."""
        if task.scales not in self._scales:
            self._scales[task.scales] = resource_scales(task.scales)
        return self._scales[task.scales]
