"""`swarmd tasks` and `swarmd explain`: the tasks of a swarm, and why one of them is not running."""

from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.connection import ask, find_arrays, find_swarm, find_task, status_values, swarm_and_task
from swarmd.cli.output import (
    Cell,
    Column,
    message_data,
    note,
    print_fields,
    print_json,
    print_json_line,
    print_line,
    print_table,
)
from swarmd.cli.statuses import task_status_cell
from swarmd.cli.text import count_of, duration, first_lines, local_time, one_line, some_of

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import swarm_service_pb2, task_pb2
    from swarmd.client.protocol import ProtocolClient

LARGEST_PAGE = 10_000

COLUMNS = (
    Column("task", numeric=True),
    Column("name", style="bold"),
    Column("array", numeric=True),
    Column("status"),
    Column("attempt", numeric=True),
    Column("failed", numeric=True),
    Column("since"),
    Column("reason", wide=True),
)


@options.reaching_daemon
def tasks(
    swarm: options.Swarm = "",
    statuses: options.Statuses = None,
    arrays: options.Arrays = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="At most so many; 0: all.")] = 1000,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """List tasks, all of them or by status and array; --json prints one JSON object a line."""
    wanted = status_values(statuses)

    async def get(client: "ProtocolClient") -> "tuple[list[task_pb2.Task], bool]":
        swarm_id = await find_swarm(client, swarm)
        array_ids = await find_arrays(client, swarm_id, arrays or [])
        page_size = min(limit + 1, LARGEST_PAGE) if limit else LARGEST_PAGE
        found: list[task_pb2.Task] = []
        async for task in client.list_tasks(swarm_id, statuses=wanted, array_ids=array_ids, page_size=page_size):
            if limit and len(found) == limit:
                return found, True
            if json_output:
                print_json_line(message_data(task))
            found.append(task)
        return found, False

    found, more = ask(daemon, get)
    if not json_output:
        _print_tasks(found)
    if more:
        note(f"there are more than {limit:,}; --limit 0 shows all of them")


def _print_tasks(found: "list[task_pb2.Task]") -> None:
    if found:
        print_table(COLUMNS, [_row(task) for task in found])
    else:
        print_line("no tasks")


def _row(task: "task_pb2.Task") -> list[str | Cell]:
    return [
        str(task.task_id),
        task.name,
        str(task.array_id),
        task_status_cell(task.status),
        str(task.attempt),
        str(task.failed_attempts or "-"),
        local_time(task.status_time.seconds),
        first_lines(task.reason),
    ]


@options.reaching_daemon
def explain(
    words: options.SwarmAndTask,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Say why a task is not running, and what became of its attempts."""
    swarm, task = swarm_and_task(words)

    async def get(client: "ProtocolClient") -> "swarm_service_pb2.ExplainTaskResponse":
        swarm_id = await find_swarm(client, swarm)
        return await client.explain_task(swarm_id, await find_task(client, swarm_id, task))

    answer = ask(daemon, get)
    if json_output:
        print_json(message_data(answer))
    else:
        _print_explanation(answer)


def _print_explanation(answer: "swarm_service_pb2.ExplainTaskResponse") -> None:
    task = answer.task
    print_line(one_line(answer.summary), "bold")
    print_line()
    print_fields(
        {
            "task": str(task.task_id),
            "name": task.name,
            "array": str(task.array_id),
            "status": task_status_cell(task.status),
            "attempts": f"{task.attempt} offered, {task.failed_attempts} failed, {task.max_attempts} allowed to fail",
            "batch": answer.batch_id,
            "asked for": _resources(answer.attempts[-1]) if answer.attempts else "",
            "upstreams": some_of(list(task.upstream_task_ids)),
            "command": task.command,
        }
    )
    for obstacle in answer.obstacles:
        print_line(f"  • {one_line(obstacle.message)}", "yellow")
    if answer.attempts:
        _print_attempts(answer)


def _print_attempts(answer: "swarm_service_pb2.ExplainTaskResponse") -> None:
    asked = [_resources(attempt) for attempt in answer.attempts]
    they_differ = len(set(asked)) > 1
    columns = [
        Column("attempt", numeric=True),
        Column("status"),
        Column("queued"),
        Column("since"),
        *([Column("asked for", wide=True)] if they_differ else []),
        Column("reason", wide=True),
    ]
    rows: list[list[str | Cell]] = [
        [
            str(attempt.attempt),
            task_status_cell(attempt.status),
            local_time(attempt.queue_time.seconds),
            local_time(attempt.status_time.seconds),
            *([resources] if they_differ else []),
            first_lines(attempt.reason),
        ]
        for attempt, resources in zip(answer.attempts, asked, strict=True)
    ]
    print_line()
    print_table(columns, rows)


def _resources(attempt: "swarm_service_pb2.Attempt") -> str:
    """What an attempt asked for, `2 cores, 1,024 MiB, 1 h 30 min on long.q`; empty when nobody kept it."""
    if not attempt.HasField("task_resources"):
        return ""
    asked = attempt.task_resources
    parts = [count_of(asked.cores, "core")]
    if asked.memory_mib:
        parts.append(f"{asked.memory_mib:,} MiB")
    if asked.HasField("runtime"):
        parts.append(duration(asked.runtime.seconds + asked.runtime.nanos / 1e9))
    return ", ".join(parts) + (f" on {asked.queue}" if asked.queue else "")
