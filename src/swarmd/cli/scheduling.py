"""`swarmd tick` and `swarmd has-work`: one scheduling iteration by hand, and whether there is need for one."""

from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.connection import ask, find_swarm
from swarmd.cli.errors import ExitCode
from swarmd.cli.output import Cell, Column, message_data, print_json, print_line, print_table
from swarmd.cli.text import count_of, one_line

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import batch_pb2, scheduler_service_pb2
    from swarmd.client.protocol import ProtocolClient


@options.reaching_daemon
def tick(
    swarm: options.Swarm = "",
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0, help="Start no new batch after this time."),
    ] = None,
    max_batches: Annotated[
        int, typer.Option("--max-batches", metavar="N", min=0, help="At most so many batches; 0: no limit.")
    ] = 0,
    full: Annotated[bool, typer.Option("--full", help="Show the tasks of each batch with their commands.")] = False,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Queue what is ready, once. With autopilot on (as `swarmd run` has it) the daemon does this by itself."""

    async def once(client: "ProtocolClient") -> "scheduler_service_pb2.TickResponse":
        from swarmd._pb.swarm.v1 import batch_pb2

        view = batch_pb2.BATCH_VIEW_FULL if full else batch_pb2.BATCH_VIEW_BASIC
        return await client.tick(await find_swarm(client, swarm), timeout=timeout, max_batches=max_batches, view=view)

    answer = ask(daemon, once)
    if json_output:
        print_json(message_data(answer))
    else:
        _print_tick(answer, full=full)


def _print_tick(answer: "scheduler_service_pb2.TickResponse", *, full: bool) -> None:
    if answer.batch_results:
        columns = [
            Column("batch"),
            Column("array", numeric=True),
            Column("tasks", numeric=True),
            Column("error", wide=True),
        ]
        print_table(columns, [_row(result) for result in answer.batch_results])
    if full:
        for batch in answer.batches:
            _print_batch(batch)
    queued = sum(len(batch.task_ids) for batch in answer.batches)
    parts = [
        f"{count_of(queued, 'task')} queued in {count_of(len(answer.batches), 'batch', 'batches')}",
        f"{answer.ready_to_run_count:,} still ready",
        *(["timed out"] if answer.timed_out else []),
    ]
    print_line(", ".join(parts))


def _row(result: "batch_pb2.BatchResult") -> list[str | Cell]:
    error = f"in doubt: {result.error}" if result.in_doubt else result.error
    return [result.batch_id, str(result.array_id), f"{result.batch_size:,}", Cell(error, "red")]


def _print_batch(batch: "batch_pb2.Batch") -> None:
    print_line(f"{batch.batch_id}  {one_line(batch.array_name)}", "bold")
    rows = [[str(task.task_id), task.name, str(task.attempt), task.command] for task in batch.tasks]
    columns = [
        Column("task", numeric=True),
        Column("name"),
        Column("attempt", numeric=True),
        Column("command", wide=True),
    ]
    print_table(columns, rows)


@options.reaching_daemon
def has_work(
    swarm: options.Swarm = "",
    wait: Annotated[
        float | None,
        typer.Option("--wait", "-w", metavar="SECONDS", min=0, help="Wait until there is work or all is finished."),
    ] = None,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Say whether a tick would queue something: exit code 0 if it would, 1 if not."""

    async def look(client: "ProtocolClient") -> "scheduler_service_pb2.HasWorkResponse":
        return await client.has_work(await find_swarm(client, swarm), wait=wait)

    answer = ask(daemon, look)
    if json_output:
        print_json(message_data(answer))
    else:
        print_line(_work_sentence(answer))
    raise typer.Exit(ExitCode.OK if answer.has_work else ExitCode.NOT_DONE)


def _work_sentence(answer: "scheduler_service_pb2.HasWorkResponse") -> str:
    if answer.finished:
        return "no: the swarm is finished"
    return (
        f"{'yes' if answer.has_work else 'no'}: {count_of(answer.ready_to_run_count, 'task')} ready, "
        f"room for {answer.available_capacity:,}, {answer.active_count:,} active"
    )
