"""What `swarmd run` says at the end: how it went, array by array, and which tasks failed and why."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmd._pb.swarm.v1 import swarm_pb2
from swarmd.cli.logs import output_path
from swarmd.cli.output import (
    Cell,
    Column,
    console,
    is_terminal,
    message_data,
    note,
    print_fields,
    print_line,
    print_table,
)
from swarmd.cli.status import count_cell
from swarmd.cli.text import count_of, first_lines, one_line, rate, took

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import array_pb2, task_pb2
    from swarmd.cli.run.session import Report

MOST_ARRAYS = 50

ARRAY_COLUMNS = (
    Column("array", style="bold"),
    Column("tasks", numeric=True),
    Column("done", numeric=True),
    Column("failed", numeric=True),
    Column("cancelled", numeric=True),
    Column("not run", numeric=True),
)


def print_summary(report: "Report") -> None:
    """For people."""
    if report.detached:
        _print_detached(report)
        return
    swarm = report.swarm
    print_line(*_headline(report))
    if not swarm.task_counts.total:
        return
    if len(swarm.arrays) > 1 or report.exit_code:
        _print_arrays(report)
    if report.failed:
        _print_failed(report)
    print_line()
    print_fields(_fields(report))


def _headline(report: "Report") -> tuple[str, str]:
    swarm, counts = report.swarm, report.swarm.task_counts
    name = one_line(swarm.display_name or swarm.swarm_id)
    if not report.exit_code:
        return f"{name}: all {count_of(counts.total, 'task')} done in {took(report.seconds)}", "bold green"
    after = f"after {took(report.seconds)}"
    if report.cancelled:
        return f"{name}: cancelled {after}, {counts.done:,} of {count_of(counts.total, 'task')} done", "bold magenta"
    return f"{name}: not finished {after}, {counts.done:,} of {count_of(counts.total, 'task')} done", "bold red"


def _fields(report: "Report") -> dict[str, str | Cell]:
    swarm = report.swarm
    ended = swarm.task_counts.done + swarm.task_counts.error_fatal
    pace = f", {rate(ended / report.seconds)}" if report.seconds > 0 and ended else ""
    blocked = f"{count_of(swarm.blocked_count, 'task')} never ran: a task before them failed or was cancelled"
    goes_on = swarm.outcome == swarm_pb2.SWARM_OUTCOME_UNFINISHED
    return {
        "time": f"{took(report.seconds)}{pace}",
        "blocked": Cell(blocked if swarm.blocked_count else "", "red"),
        "held": Cell(swarm.held_reason if goes_on else "", "yellow"),
        "output": swarm.log_directory,
        "look again": f"swarmd status {swarm.swarm_id}" if report.stays else "",
    }


def _print_arrays(report: "Report") -> None:
    def interest(array: "array_pb2.Array") -> int:
        return array.task_counts.error_fatal

    arrays = list(report.swarm.arrays)
    shown = sorted(arrays, key=interest, reverse=True)[:MOST_ARRAYS] if len(arrays) > MOST_ARRAYS else arrays
    print_line()
    print_table(ARRAY_COLUMNS, [_array_row(array) for array in shown])
    if len(arrays) > len(shown):
        print_line(f"… and {len(arrays) - len(shown):,} more arrays", "dim")


def _array_row(array: "array_pb2.Array") -> list[str | Cell]:
    counts = array.task_counts
    not_run = counts.total - counts.done - counts.error_fatal - counts.cancelled
    styled = [(counts.done, "green"), (counts.error_fatal, "red"), (counts.cancelled, "magenta"), (not_run, "yellow")]
    return [array.name, f"{counts.total:,}", *(count_cell(number, style) for number, style in styled)]


def _print_failed(report: "Report") -> None:
    columns = [
        Column("failed task", style="bold"),
        Column("attempts", numeric=True),
        Column("reason", wide=True),
        Column("error output"),
    ]
    shortened = is_terminal(sys.stdout) and len(report.swarm.log_directory) > console().width // 3
    rows: list[list[str | Cell]] = []
    for task in report.failed:
        reason, path = Cell(first_lines(task.reason), "red"), err_path(report, task)
        shown = path.replace(report.swarm.log_directory, "…") if shortened else path
        rows.append([task.name or str(task.task_id), str(task.attempt), reason, shown])
    print_line()
    print_table(columns, rows)
    more = report.swarm.task_counts.error_fatal - len(report.failed)
    if more > 0:
        print_line(f"… and {more:,} more failed tasks", "dim")


def err_path(report: "Report", task: "task_pb2.Task") -> str:
    """Where the last error output of a task is; empty when the gateway keeps none here, or the task never began."""
    where = report.swarm.log_directory
    if not where:
        return ""
    path = output_path(where, task.array_id, task.task_id, task.attempt, err=True)
    return str(path) if path.exists() or not Path(where).parent.is_dir() else ""


def _print_detached(report: "Report") -> None:
    swarm_id = report.swarm.swarm_id
    print_line(f"{swarm_id} goes on without you")
    print_fields(
        {
            "follow it": f"swarmd watch {swarm_id}",
            "look": f"swarmd status {swarm_id}",
            "end it": f"swarmd cancel {swarm_id} --all",
            "output": report.swarm.log_directory,
        }
    )
    if report.ends_daemon:
        note(
            "the daemon was started for this run: it ends when that is finished; `swarmd serve` has the workflow again"
        )


def summary_data(report: "Report") -> dict[str, Any]:
    """For programs."""
    failed = [{**message_data(task), "errPath": err_path(report, task)} for task in report.failed]
    return {
        "swarm": message_data(report.swarm),
        "seconds": round(report.seconds, 3),
        "cancelled": report.cancelled,
        "detached": report.detached,
        "failedTasks": failed,
    }
