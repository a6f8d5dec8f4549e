"""JobmonServer: the calls of Jobmon's server that a swarm needs, as methods with plain values.

Every method makes its call once and raises what `HttpServer.call` raises; whether it may be repeated is in its
docstring. An answer that does not look as it should counts as lost.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from swarmd.gateways.jobmon.failures import LostError
from swarmd.gateways.jobmon.http import HttpServer
from swarmd.gateways.jobmon.literals import read_literal, read_mapping
from swarmd.gateways.jobmon.reading import read_in_pieces

Statuses = Mapping[str, Sequence[int]]
"""Ids of tasks by the letter of their status."""


@dataclass(frozen=True, slots=True)
class WorkflowFacts:
    """What the server says of a workflow as a whole."""

    workflow_id: int
    dag_id: int
    max_concurrently_running: int


@dataclass(frozen=True, slots=True)
class KnownTask:
    """A task that is not DONE."""

    task_id: int
    array_id: int
    status: str
    max_attempts: int
    scales: str
    """As the server keeps it, like the next two: `literals` reads it."""
    fallback_queues: str
    resources: str
    cluster: str
    queue: str
    array_limit: int | None


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue and the cluster that it belongs to."""

    cluster_id: int
    queue_id: int
    parameters: Mapping[str, Any]
    """What it can hold, by resource."""


class JobmonServer:
    """One server, by the calls that are made to it. `seconds`: how long it may take to answer each."""

    def __init__(self, http: HttpServer, *, seconds: float) -> None:
        self._http = http
        self._seconds = seconds

    @classmethod
    def at(cls, url: str, *, client_version: str = "", ca_file: Path | None = None, seconds: float) -> "JobmonServer":
        """The server with this URL, route prefix included."""
        query = {"client_jobmon_version": client_version} if client_version else {}
        return cls(HttpServer(url, query=query, ca_file=ca_file), seconds=seconds)

    @property
    def url(self) -> str:
        return self._http.url

    async def open(self) -> None:
        """Get ready. Raises InvalidInputError for a CA file that cannot be used."""
        await self._http.open()

    async def close(self) -> None:
        """End all calls."""
        await self._http.close()

    # -- the run ---------------------------------------------------------------------------------------------------

    async def run_status(self, run_id: int) -> str:
        """The run's status, with nothing changed. May be repeated. RefusedError: there is no such run.

        Asked by way of a status that no run can be set to.
        """
        return await self.set_run_status(run_id, "G")

    async def set_run_status(self, run_id: int, status: str) -> str:
        """Set it. Gives the status that the run then has, which is another when the server did not want to."""
        answer = await self._call("PUT", f"/workflow_run/{run_id}/update_status", {"status": status})
        with _as_expected():
            return str(answer["status"])

    async def heartbeat(self, run_id: int, status: str, *, lives_for: float, seconds: float) -> str:
        """Say that the run is alive for so many seconds more. Gives the run's status. May be repeated."""
        body = {"status": status, "next_report_increment": lives_for}
        answer = await self._http.call("POST", f"/workflow_run/{run_id}/log_heartbeat", body, seconds=seconds)
        with _as_expected():
            return str(answer["status"])

    async def triage(self, run_id: int) -> None:
        """Let the server look for tasks that have not been heard of. May be repeated."""
        await self._call("POST", f"/workflow_run/{run_id}/set_status_for_triaging", {})

    async def terminate(self, run_id: int) -> None:
        """End what runs, and with a hot resume only what was launched and does not run yet. May be repeated."""
        await self._call("PUT", f"/workflow_run/{run_id}/terminate_task_instances", {})

    async def instances(self, run_id: int, status: str) -> list[int]:
        """The task instances of a run that have this status. May be repeated."""
        body = {"task_instance_ids": [], "status": status}
        answer = await self._call("POST", f"/workflow_run/{run_id}/sync_status", body)
        with _as_expected():
            return [int(instance) for instance in answer["status_updates"].get(status, ())]

    async def give_up_instance(self, instance: int, status: str, why: str) -> None:
        """End an instance that has this status (I, O or T) and that nobody launches or hears of. May be repeated.

        As the distributor would do it: its task is in G then, or in F after its last attempt.
        """
        if status == "I":
            await self._call("POST", f"/task_instance/{instance}/log_no_distributor_id", {"no_id_err_msg": why})
        else:
            body = {"error_state": "U", "error_message": why}
            await self._call("POST", f"/task_instance/{instance}/log_known_error", body)

    async def lost_runs(self, statuses: str, server_version: str) -> dict[int, int]:
        """The runs in these statuses whose last heartbeat is over, with their workflows. May be repeated."""
        answer = await self._call("GET", "/lost_workflow_run", status=list(statuses), version=server_version)
        with _as_expected():
            return {int(run_id): int(workflow_id) for run_id, workflow_id in answer["workflow_runs"]}

    # -- the workflow ----------------------------------------------------------------------------------------------

    async def workflow(self, workflow_id: int) -> WorkflowFacts | None:
        """What is known of a workflow; None when there is none with this id. May be repeated."""
        answer = await self._call("GET", f"/workflow/{workflow_id}/fetch_workflow_metadata")
        with _as_expected():
            return WorkflowFacts(*(int(value) for value in answer["workflow"])) if answer["workflow"] else None

    async def tasks(self, workflow_id: int, *, after: int, most: int) -> list[KnownTask]:
        """The tasks that are not DONE with the lowest ids above `after`, at most so many. May be repeated."""
        path = f"/workflow/get_tasks/{workflow_id}"
        answer = await self._call("GET", path, max_task_id=after, chunk_size=most)
        with _as_expected():
            found = [_known_task(int(task_id), *values) for task_id, values in answer["tasks"].items()]
        return sorted(found, key=lambda task: task.task_id)

    async def downstreams(self, dag_id: int, task_ids: Sequence[int]) -> dict[int, tuple[int, list[int]]]:
        """For each task its node, and the nodes after it. May be repeated."""
        body = {"task_ids": list(task_ids), "dag_id": dag_id}
        answer = await self._call("POST", "/task/get_downstream_tasks", body)
        with _as_expected():
            return {
                int(task_id): (int(node), [int(each) for each in read_literal(after) or ()])
                for task_id, (node, after) in answer["downstream_tasks"].items()
            }

    async def workflow_limit(self, workflow_id: int) -> int:
        """How many tasks of the workflow may be active. May be repeated."""
        return await self._limit(f"/workflow/{workflow_id}/get_max_concurrently_running")

    async def array_limit(self, array_id: int) -> int:
        """How many tasks of the array may be active. May be repeated. 3.2.2 does not know this route: NoRouteError."""
        return await self._limit(f"/array/{array_id}/get_array_max_concurrently_running")

    async def _limit(self, path: str) -> int:
        answer = await self._call("GET", path)
        with _as_expected():
            return int(answer["max_concurrently_running"])

    async def statuses(self, workflow_id: int, last_sync: str | None) -> tuple[dict[str, list[int]], str]:
        """The tasks that changed since then, or all, by status; and the server's time. May be repeated."""
        body = {} if last_sync is None else {"last_sync": last_sync}
        path = f"/workflow/{workflow_id}/task_status_updates"
        found: tuple[dict[str, list[int]], str] = await self._http.call(
            "POST", path, body, seconds=self._seconds, read=_read_statuses
        )
        return found

    # -- queueing --------------------------------------------------------------------------------------------------

    async def queue_facts(self, cluster: str, queue: str) -> QueueFacts | None:
        """What is known of a queue; None when there is no such cluster, or no such queue in it. May be repeated."""
        answer = await self._call("GET", f"/cluster/{_path(cluster)}")
        with _as_expected():
            cluster_id = int(answer["cluster"][0]) if answer["cluster"] else None
        if cluster_id is None:
            return None
        answer = await self._call("GET", f"/cluster/{cluster_id}/queue/{_path(queue)}")
        with _as_expected():
            if not answer["queue"]:
                return None
            queue_id, parameters = answer["queue"][0], answer["queue"][2]
            return QueueFacts(cluster_id, int(queue_id), _mapping(parameters))

    async def bind_resources(self, queue_id: int, kind: str, requested: Mapping[str, Any]) -> int:
        """Make task resources of a kind (O, V or A). Gives their id; a repeat makes others, which does no harm."""
        body = {"queue_id": queue_id, "task_resources_type_id": kind, "requested_resources": dict(requested)}
        answer = await self._call("POST", "/task/bind_resources", body)
        with _as_expected():
            return int(answer)

    async def queue_tasks(
        self, array_id: int, task_ids: Sequence[int], *, resources_id: int, run_id: int, cluster_id: int, seconds: float
    ) -> dict[str, list[int]]:
        """Queue tasks that are in G or A. Gives the status of each that the server knows. Must never be repeated."""
        body = {
            "task_ids": list(task_ids),
            "task_resources_id": resources_id,
            "workflow_run_id": run_id,
            "cluster_id": cluster_id,
        }
        answer = await self._http.call("POST", f"/array/{array_id}/queue_task_batch", body, seconds=seconds)
        with _as_expected():
            return _statuses(answer["tasks_by_status"])

    async def take_back(self, workflow_id: int, task_ids: Sequence[int]) -> None:
        """End the instances of these tasks, which are in G then. May be repeated."""
        body = {"task_ids": list(task_ids), "new_status": "G", "workflow_status": "R", "workflow_id": workflow_id}
        await self._call("PUT", "/task/update_statuses", body)

    async def last_error(self, task_id: int) -> str:
        """What the last failed instance of a task said; empty when there is nothing. May be repeated."""
        answer = await self._call("GET", f"/task/{task_id}/most_recent_ti_error")
        with _as_expected():
            return str(answer.get("error_description") or "")

    async def _call(self, method: str, path: str, body: object = None, **query: Any) -> Any:
        return await self._http.call(method, path, body, seconds=self._seconds, **query)


@contextmanager
def _as_expected() -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise LostError(f"Jobmon's server answers something else than it should: {error!r}") from error


def _known_task(
    task_id: int,
    array_id: int,
    status: str,
    max_attempts: int,
    scales: str,
    fallback_queues: str,
    resources: str,
    cluster: str,
    queue: str,
    array_limit: int | None,
) -> KnownTask:
    return KnownTask(
        task_id,
        int(array_id),
        str(status),
        int(max_attempts),
        scales,
        fallback_queues,
        resources,
        str(cluster),
        str(queue),
        None if array_limit is None else int(array_limit),
    )


def _statuses(given: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    return {str(status): [int(task_id) for task_id in ids] for status, ids in given.items()}


def _read_statuses(text: bytes) -> tuple[dict[str, list[int]], str]:
    """Statuses and the server's time. Raises ValueError for what is no JSON, LostError for what is something else."""
    answer = read_in_pieces(text)
    with _as_expected():
        return _statuses(answer["tasks_by_status"]), str(answer["time"])


def _mapping(text: Any) -> dict[str, Any]:
    """What a queue can hold; a text that nobody can read says nothing of it."""
    try:
        return read_mapping(text)
    except ValueError:
        return {}


def _path(name: str) -> str:
    return quote(name, safe="")
