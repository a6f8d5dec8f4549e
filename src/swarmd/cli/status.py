"""`swarmd status`: all swarms in a table, or one swarm with its arrays."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.connection import ask, find_swarm
from swarmd.cli.output import Cell, Column, message_data, print_fields, print_json, print_line, print_table
from swarmd.cli.statuses import policy_name, state_cell
from swarmd.cli.text import count_of, first_lines, local_time, one_line, took

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_pb2
    from swarmd.client.protocol import ProtocolClient

PULL_GATEWAY = "pull"

COUNTS = (
    Column("tasks", numeric=True),
    Column("wait", numeric=True),
    Column("queued", numeric=True),
    Column("run", numeric=True),
    Column("done", numeric=True),
    Column("failed", numeric=True),
    Column("cancelled", numeric=True),
)


@options.reaching_daemon
def status(
    swarm: Annotated[
        str | None, typer.Argument(metavar="[SWARM]", help="The swarm's id or name. Without it: all swarms.")
    ] = None,
    arrays: Annotated[int, typer.Option("--arrays", metavar="N", min=0, help="Show at most so many arrays.")] = 50,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Show how all swarms stand, or one of them with its arrays."""
    if swarm is None:
        _show_all(daemon, json_output=json_output)
        return

    async def get(client: "ProtocolClient") -> "swarm_pb2.Swarm":
        return await client.get_swarm(await find_swarm(client, swarm), full=True)

    found = ask(daemon, get)
    if json_output:
        print_json(message_data(found))
    else:
        print_swarm(found, arrays)


def _show_all(daemon: options.Daemon, *, json_output: bool) -> None:
    async def get(client: "ProtocolClient") -> "tuple[list[swarm_pb2.Swarm], list[swarm_pb2.SetAsideSwarm]]":
        swarms = await client.list_swarms()
        for place, swarm in enumerate(swarms):
            if swarm.gateway == PULL_GATEWAY and swarm.task_counts.queued:  # somebody may have vanished with them
                swarms[place] = await client.get_swarm(swarm.swarm_id, full=True)
        return swarms, await client.set_aside_swarms()

    swarms, set_aside = ask(daemon, get)
    if json_output:
        data = {"swarms": [message_data(swarm) for swarm in swarms]}
        print_json(data | ({"setAside": [message_data(each) for each in set_aside]} if set_aside else {}))
        return
    if swarms:
        columns = [Column("swarm", style="bold"), Column("name"), Column("state"), *COUNTS, Column("created")]
        print_table(columns, [_row(swarm) for swarm in swarms])
        for swarm in swarms:
            _print_open_batches(swarm)
    elif not set_aside:
        print_line("there are no swarms")
    for each in set_aside:
        print_line(f"{each.swarm_id} is damaged and was set aside: {each.problem}", "red")
        print_line(f"  {each.remedy}")


def _row(swarm: "swarm_pb2.Swarm") -> list[str | Cell]:
    created = local_time(swarm.create_time.seconds)
    return [swarm.swarm_id, swarm.display_name, state_cell(swarm), *count_cells(swarm.task_counts), created]


def count_cells(counts: "state_pb2.TaskCounts") -> list[str | Cell]:
    """The cells for COUNTS."""
    return [
        f"{counts.total:,}",
        count_cell(counts.registered - counts.reserved),
        count_cell(counts.active - counts.running, "blue"),
        count_cell(counts.running, "cyan"),
        count_cell(counts.done, "green"),
        count_cell(counts.error_fatal, "red"),
        count_cell(counts.cancelled, "magenta"),
    ]


def count_cell(number: int, style: str = "") -> Cell:
    """A number with its colour; a dash for none."""
    return Cell(f"{number:,}", style) if number else Cell("-", "dim")


def print_swarm(swarm: "swarm_pb2.Swarm", most_arrays: int) -> None:
    """One swarm for people."""
    print_fields(_fields(swarm))
    _print_refusals(swarm)
    _print_open_batches(swarm)
    if not swarm.arrays:
        return
    print_line()
    rows = [_array_row(array) for array in swarm.arrays[:most_arrays]]
    print_table(
        [Column("id", numeric=True), Column("array", style="bold"), Column("limit", numeric=True), *COUNTS], rows
    )
    if len(swarm.arrays) > most_arrays:
        print_line(f"… and {len(swarm.arrays) - most_arrays:,} more arrays (--arrays N shows more)", "dim")


def _fields(swarm: "swarm_pb2.Swarm") -> dict[str, str | Cell]:
    counts = swarm.task_counts
    switches = [name for name in ("paused", "autopilot", "fail_fast", "in_memory") if getattr(swarm, name)]
    blocked = count_of(swarm.blocked_count, "task") if swarm.blocked_count else ""
    return {
        "swarm": Cell(swarm.swarm_id, "bold"),
        "name": swarm.display_name,
        "state": state_cell(swarm),
        "held": Cell(swarm.held_reason, "yellow"),
        "run status": run_status_name(swarm.workflow_run_status),
        "tasks": tasks_sentence(counts),
        "blocked": Cell(blocked, "red"),
        "engine": Cell(one_line(swarm.engine_trouble), "yellow"),
        "in doubt": Cell(count_of(counts.in_doubt, "task") if counts.in_doubt else "", "yellow"),
        "limit": f"{swarm.max_concurrently_running:,} at once",
        "gateway": " ".join([swarm.gateway, *(f"{key}={value}" for key, value in swarm.gateway_options.items())]),
        "policy": policy_name(swarm),
        "switches": ", ".join(switches),
        "created": local_time(swarm.create_time.seconds),
        "revision": str(swarm.revision),
        "directory": swarm.working_directory,
        "output": swarm.log_directory,
    }


def _print_refusals(swarm: "swarm_pb2.Swarm") -> None:
    """What the engine does not take."""
    if not swarm.refusals:
        return
    print_line()
    names = {array.array_id: array.name for array in swarm.arrays}
    columns = [
        Column("refused array", style="bold"),
        Column("times", numeric=True),
        Column("since"),
        Column("", wide=True),
    ]
    rows: list[list[str | Cell]] = [
        [
            names.get(each.array_id) or str(each.array_id),
            f"{each.times:,}",
            local_time(each.since_time.seconds),
            Cell(first_lines(each.reason), "yellow"),
        ]
        for each in swarm.refusals
    ]
    print_table(columns, rows)


def _print_open_batches(swarm: "swarm_pb2.Swarm") -> None:
    """The batches of which no news has come, and for how long."""
    if not swarm.open_batches:
        return
    print_line()
    columns = [Column("batch", style="bold"), Column("tasks", numeric=True), Column("age", numeric=True), Column("")]
    print_table(columns, [_batch_row(batch) for batch in swarm.open_batches])
    more = swarm.open_batch_count - len(swarm.open_batches)
    if more > 0:
        print_line(f"… and {more:,} more batches", "dim")


def _batch_row(batch: "swarm_pb2.OpenBatch") -> list[str | Cell]:
    from swarmd._pb.swarm.v1 import swarm_pb2

    words = {
        swarm_pb2.OpenBatch.STATE_BEING_QUEUED: "is being queued",
        swarm_pb2.OpenBatch.STATE_IN_DOUBT: f"in doubt: {batch.reason}",
        swarm_pb2.OpenBatch.STATE_HANDED_OUT: "handed out without news",
    }
    what = words.get(batch.state, "")
    asked = f", for request {batch.request_id}" if batch.request_id else ""
    age = took(max(0.0, time.time() - batch.take_time.seconds - batch.take_time.nanos / 1e9))
    return [batch.batch_id, f"{batch.task_count:,}", age, f"{what}{asked}"]


def _array_row(array: "array_pb2.Array") -> list[str | Cell]:
    limit = f"{array.max_concurrently_running:,}" if array.HasField("max_concurrently_running") else "-"
    return [str(array.array_id), array.name, limit, *count_cells(array.task_counts)]


def tasks_sentence(counts: "state_pb2.TaskCounts") -> str:
    """`10 tasks: 4 wait (2 ready), 1 queued, 1 run, 3 done, 1 failed`."""
    ready = f" ({counts.ready:,} ready)" if counts.ready else ""
    parts = [
        (counts.registered - counts.reserved, f"wait{ready}"),
        (counts.active - counts.running, "queued"),
        (counts.running, "run"),
        (counts.done, "done"),
        (counts.error_fatal, "failed"),
        (counts.cancelled, "cancelled"),
    ]
    told = ", ".join(f"{number:,} {word}" for number, word in parts if number)
    return f"{count_of(counts.total, 'task')}{': ' if told else ''}{told}"


def run_status_name(value: "state_pb2.WorkflowRunStatus") -> str:
    """`RUNNING`; of a status that is not known here, its number."""
    from swarmd._pb.swarm.v1 import state_pb2

    try:
        return state_pb2.WorkflowRunStatus.Name(value).removeprefix("WORKFLOW_RUN_STATUS_")
    except ValueError:
        return str(int(value))
