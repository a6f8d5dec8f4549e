"""`swarmd watch`: what happens in a swarm, a line for each change, until it is finished."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.connection import ask, find_swarm
from swarmd.cli.errors import ExitCode
from swarmd.cli.output import message_data, print_json_line, print_line
from swarmd.cli.status import run_status_name, tasks_sentence
from swarmd.cli.statuses import STYLES, task_status_name
from swarmd.cli.text import count_of, local_time, one_line, some_of

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import swarm_service_pb2
    from swarmd.client.protocol import ProtocolClient

REASON_CHARACTERS = 200


@options.reaching_daemon
def watch(
    swarm: options.Swarm = "",
    after_revision: Annotated[
        int | None,
        typer.Option("--after-revision", metavar="REVISION", min=0, help="Go on after this revision."),
    ] = None,
    progress: Annotated[
        float, typer.Option("--progress", metavar="SECONDS", min=0.1, help="Tell the counts when nothing changes.")
    ] = 10.0,
    forever: Annotated[bool, typer.Option("--forever", help="Go on when the swarm is finished.")] = False,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Follow a swarm until it is finished, a line for each change; goes on where it was after a lost connection.

    The exit code is 0 when all its tasks are done and 1 when they are not; --json prints one JSON object a line.
    """

    async def follow(client: "ProtocolClient") -> ExitCode:
        from swarmd.client.watching import Follower

        follower = Follower(
            client,
            swarm_id=await find_swarm(client, swarm),
            after_revision=after_revision,
            until_finished=not forever,
            progress_interval=progress,
        )
        code = ExitCode.OK
        async for event in follower.events():
            _show(event, json_output=json_output)
            if event.HasField("end"):
                code = _exit_code(event.end)
        return code

    raise typer.Exit(ask(daemon, follow))


def _exit_code(end: "swarm_service_pb2.WatchEnd") -> ExitCode:
    from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2

    if end.reason == swarm_service_pb2.WatchEnd.REASON_DELETED:
        return ExitCode.REFUSED
    return ExitCode.OK if end.outcome == swarm_pb2.SWARM_OUTCOME_DONE else ExitCode.NOT_DONE


def _show(event: "swarm_service_pb2.WatchSwarmResponse", *, json_output: bool) -> None:
    if json_output:
        print_json_line(message_data(event))
        return
    moment = local_time(event.event_time.seconds, date=False)
    for text, style in lines(event):
        print_line(f"{moment:<8}  r{event.revision:<6} {one_line(text)}", style)


def lines(event: "swarm_service_pb2.WatchSwarmResponse") -> Iterator[tuple[str, str]]:
    """What there is to say about an event, each line with its colour."""
    if event.HasField("snapshot"):
        swarm = event.snapshot.swarm
        yield f"{swarm.swarm_id}: {tasks_sentence(swarm.task_counts)}", "bold"
    elif event.HasField("progress"):
        yield f"no change; {tasks_sentence(event.progress.task_counts)}", "dim"
    elif event.HasField("end"):
        yield _end_line(event.end)
    else:
        yield from _change_lines(event.change)


def _end_line(end: "swarm_service_pb2.WatchEnd") -> tuple[str, str]:
    from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2

    if end.reason == swarm_service_pb2.WatchEnd.REASON_DELETED:
        return "the swarm was deleted", "bold red"
    if end.outcome == swarm_pb2.SWARM_OUTCOME_DONE:
        return "finished: all tasks are done", "bold green"
    return "finished: not all tasks are done", "bold red"


def _change_lines(change: "swarm_service_pb2.WatchChange") -> Iterator[tuple[str, str]]:
    for group in change.task_statuses:
        name, ids = task_status_name(group.status), list(group.task_ids)
        reason = f": {one_line(group.reason)[:REASON_CHARACTERS]}" if group.reason else ""
        yield f"{name} {some_of(ids)}{reason}", STYLES.get(name, "")
    if change.added_task_count or change.added_arrays:
        arrays = f" and {count_of(len(change.added_arrays), 'array')}" if change.added_arrays else ""
        yield f"added {count_of(change.added_task_count, 'task')}{arrays}", ""
    if change.HasField("max_concurrently_running"):
        yield f"the swarm's limit is {change.max_concurrently_running:,} now", "yellow"
    for limit in change.array_limits:
        now = f"{limit.max_concurrently_running:,}" if limit.HasField("max_concurrently_running") else "unlimited"
        yield f"the limit of array {limit.array_id} is {now} now", "yellow"
    if change.workflow_run_status:
        yield f"the run's status is {run_status_name(change.workflow_run_status)} now", "yellow"
    if change.HasField("swarm"):
        yield f"settings changed: {'paused' if change.swarm.paused else 'not paused'}", "yellow"
