"""Carries out script.json with the client beside this file; README.md one folder up says what each step means."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
from swarm_client import Client, Failure, duration, scheduler_pb, swarm_pb

from swarm.v1 import array_pb2, batch_pb2, state_pb2, swarm_pb2, task_pb2  # isort: skip (swarm_client says where)

Step = dict[str, Any]


class WrongError(Exception):
    """A step did not come to what it should."""


class Run:
    """One run of the script."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.revisions: dict[str, int] = {}
        self.batches: dict[str, list[str]] = {}

    # -- steps -------------------------------------------------------------------------------------------------------

    def create_swarm(self, step: Step) -> Step:
        request = swarm_pb.CreateSwarmRequest(swarm=swarm_pb2.Swarm(**step["swarm"]), request_id=step["request_id"])
        swarm = self.client.swarms.CreateSwarm(request, **self.options(step)).swarm
        status = state_pb2.WorkflowRunStatus.Name(swarm.workflow_run_status)
        return {
            "swarm_id": swarm.swarm_id,
            "max_concurrently_running": swarm.max_concurrently_running,
            "workflow_run_status": status.removeprefix("WORKFLOW_RUN_STATUS_"),
        }

    def get_swarm(self, step: Step) -> Step:
        request = swarm_pb.GetSwarmRequest(swarm_id=step["swarm_id"])
        swarm = self.client.swarms.GetSwarm(request, **self.options(step)).swarm
        counts = swarm.task_counts
        return {
            "total": counts.total,
            "done": counts.done,
            "ready": counts.ready,
            "active": counts.active,
            "outcome": swarm_pb2.SwarmOutcome.Name(swarm.outcome).removeprefix("SWARM_OUTCOME_"),
        }

    def list_swarms(self, step: Step) -> Step:
        answer = self.client.swarms.ListSwarms(swarm_pb.ListSwarmsRequest(), **self.options(step))
        return {"swarm_ids": [swarm.swarm_id for swarm in answer.swarms]}

    def delete_swarm(self, step: Step) -> Step:
        self.client.swarms.DeleteSwarm(swarm_pb.DeleteSwarmRequest(swarm_id=step["swarm_id"]), **self.options(step))
        return {}

    def add_tasks(self, step: Step) -> Step:
        chunks = [load_chunk(chunk) for chunk in step["chunks"]]
        answer = self.client.add_tasks(step["swarm_id"], step["request_id"], chunks, deadline(step))
        return {
            "task_count": answer.task_count,
            "array_count": answer.array_count,
            "task_resources_count": answer.task_resources_count,
            "newly_ready_count": answer.newly_ready_count,
        }

    def has_work(self, step: Step) -> Step:
        wait = duration(step["wait_seconds"]) if "wait_seconds" in step else None
        request = scheduler_pb.HasWorkRequest(swarm_id=step["swarm_id"], wait=wait)
        answer = self.client.scheduler.HasWork(request, **self.options(step))
        names = ("has_work", "ready_to_run_count", "available_capacity", "active_count", "finished")
        return {name: getattr(answer, name) for name in names}

    def tick(self, step: Step) -> Step:
        request = scheduler_pb.TickRequest(
            swarm_id=step["swarm_id"],
            request_id=step["request_id"],
            view=batch_pb2.BatchView.Value(f"BATCH_VIEW_{step['view']}"),
            timeout=duration(step["timeout_seconds"]),
        )
        answer = self.client.scheduler.Tick(request, **self.options(step))
        batch_ids = [batch.batch_id for batch in answer.batches]
        if "save_batches" in step:
            self.batches[step["save_batches"]] = batch_ids
        if "same_batches_as" in step and batch_ids != self.batches[step["same_batches_as"]]:
            raise WrongError(f"the batches are {batch_ids}, not {self.batches[step['same_batches_as']]}")
        return {
            "batches": [
                {
                    "array_id": str(batch.array_id),
                    "task_ids": texts(batch.task_ids),
                    "attempts": list(batch.attempts),
                    "commands": [task.command for task in batch.tasks],
                }
                for batch in answer.batches
            ],
            "queued": [
                str(task_id)
                for group in answer.update.task_statuses
                if group.status == task_pb2.TASK_STATUS_QUEUED
                for task_id in group.task_ids
            ],
            "ready_to_run_count": answer.ready_to_run_count,
            "timed_out": answer.timed_out,
        }

    def apply_updates(self, step: Step) -> Step:
        requests = [
            scheduler_pb.ApplyUpdateRequest(
                sequence=int(message["sequence"]),
                update=state_pb2.StateUpdate(task_statuses=[status_group(group) for group in message["task_statuses"]]),
            )
            for message in step["messages"]
        ]
        answers = self.client.apply_updates(step["swarm_id"], requests, deadline(step))
        return {"answers": [update_answer(answer) for answer in answers]}

    def watch(self, step: Step) -> Step:
        result: Step = {"snapshot": None, "changes": []}
        revision = self.revisions[step["after"]] if "after" in step else None
        call = self.client.watch(
            step["swarm_id"], revision, deadline(step), until_finished=step.get("until_finished", False)
        )
        for message in call:
            if message.HasField("snapshot"):
                counts = message.snapshot.swarm.task_counts
                result["snapshot"] = {"total": counts.total, "ready": counts.ready, "done": counts.done}
            elif message.HasField("change"):
                if revision is not None and message.revision <= revision:
                    raise WrongError(f"revision {message.revision} comes after {revision}")
                groups = message.change.task_statuses
                result["changes"].append("; ".join(f"{status(g.status)} {','.join(texts(g.task_ids))}" for g in groups))
            elif message.HasField("end"):
                result["end"] = swarm_pb.WatchEnd.Reason.Name(message.end.reason).removeprefix("REASON_")
                outcome = swarm_pb2.SwarmOutcome.Name(message.end.outcome)
                result["outcome"] = outcome.removeprefix("SWARM_OUTCOME_")
            revision = message.revision
            if "read_changes" in step and len(result["changes"]) == step["read_changes"]:
                call.cancel()
                break
        if "save_revision" in step and revision is not None:
            self.revisions[step["save_revision"]] = revision
        return result

    def restart(self, step: Step) -> Step:
        del step
        print("restart", flush=True)
        if not sys.stdin.readline():
            raise WrongError("nobody has restarted the daemon")
        return {}

    # -- around them -------------------------------------------------------------------------------------------------

    def options(self, step: Step) -> Step:
        """Deadline and token of a call."""
        return {"timeout": deadline(step), "metadata": [] if step.get("without_token") else self.client.metadata}

    def carry_out(self, step: Step) -> None:
        """Raises WrongError when the step does not come to what it should."""
        act: Callable[[Step], Step] = getattr(self, step["do"])
        until = time.monotonic() + step.get("retry_seconds", 0)
        wanted = step.get("expect_error")
        while True:
            try:
                result = act(step)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and time.monotonic() < until:
                    time.sleep(0.2)
                    continue
                failure = asdict(Failure.of(error))
                if wanted is None or difference(wanted, failure):
                    raise WrongError(f"it failed with {failure}: {error.details()}") from None
                return
            if wanted is not None:
                raise WrongError(f"it went well: {result}")
            found = difference(step.get("expect", {}), result)
            if found:
                raise WrongError(found)
            return


def deadline(step: Step) -> float:
    return float(step.get("deadline_seconds", 30))


def texts(ids: Any) -> list[str]:
    return [str(each) for each in ids]


def status(value: int) -> str:
    return task_pb2.TaskStatus.Name(value).removeprefix("TASK_STATUS_")


def load_chunk(chunk: Step) -> swarm_pb.AddTasksRequest:
    resources = []
    for each in chunk.get("task_resources", []):
        values = {name: value for name, value in each.items() if name not in ("task_resources_id", "runtime_seconds")}
        runtime = duration(each["runtime_seconds"]) if "runtime_seconds" in each else None
        resources.append(
            task_pb2.TaskResources(task_resources_id=int(each["task_resources_id"]), runtime=runtime, **values)
        )
    return swarm_pb.AddTasksRequest(
        arrays=[array_pb2.Array(**{**each, "array_id": int(each["array_id"])}) for each in chunk.get("arrays", [])],
        task_resources=resources,
        tasks=[task(each) for each in chunk.get("tasks", [])],
    )


def task(values: Step) -> task_pb2.Task:
    ids = {name: int(values[name]) for name in ("task_id", "array_id", "task_resources_id")}
    upstreams = [int(each) for each in values.get("upstream_task_ids", [])]
    return task_pb2.Task(**{**values, **ids, "upstream_task_ids": upstreams})


def status_group(group: Step) -> state_pb2.TaskStatusGroup:
    return state_pb2.TaskStatusGroup(
        status=task_pb2.TaskStatus.Value(f"TASK_STATUS_{group['status']}"),
        task_ids=[int(each) for each in group["task_ids"]],
        attempts=group.get("attempts", []),
        reason=group.get("reason", ""),
    )


def update_answer(answer: scheduler_pb.ApplyUpdateResponse) -> Step:
    result: Step = {
        "sequence": str(answer.sequence),
        "changed_count": answer.changed_count,
        "newly_ready_count": answer.newly_ready_count,
    }
    if answer.HasField("error"):
        code = next(code.name for code in grpc.StatusCode if code.value[0] == answer.error.code)
        result["error"] = {"code": code, "reason": answer.error.reason}
    if answer.ignored:
        result["ignored"] = [
            {
                "task_ids": texts(news.task_ids),
                "status": status(news.status),
                "reason": state_pb2.IgnoredNews.Reason.Name(news.reason).removeprefix("REASON_"),
            }
            for news in answer.ignored
        ]
    return result


def difference(wanted: Any, got: Any, where: str = "") -> str:
    """Where the result is not what is wanted; empty when it is."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        found = (difference(value, got.get(key), f"{where}.{key}") for key, value in wanted.items())
        return next(filter(None, found), "")
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        found = (difference(a, b, f"{where}[{place}]") for place, (a, b) in enumerate(zip(wanted, got, strict=True)))
        return next(filter(None, found), "")
    return "" if wanted == got else f"{where.lstrip('.')} is {got!r}, not {wanted!r}"


def main() -> int:
    script = json.loads(Path(sys.argv[1]).read_text())
    client = Client.from_environment()
    transport = "unix" if client.address.startswith("unix:") else "tcp"
    run, failed = Run(client), 0
    for step in script["steps"]:
        if step.get("only", transport) != transport:
            continue
        try:
            run.carry_out(step)
        except Exception as error:  # a step that takes us by surprise has failed
            failed += 1
            print(f"failed {step['name']}: {error}", flush=True)
        else:
            print(f"ok {step['name']}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
