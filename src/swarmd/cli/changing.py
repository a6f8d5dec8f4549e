"""`swarmd cancel`, `reset`, `pause`, `resume` and `delete`: changes to a swarm that is there."""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.connection import ask, find_arrays, find_swarm, status_values
from swarmd.cli.errors import UsageError
from swarmd.cli.output import is_terminal, message_data, print_json, print_line
from swarmd.cli.text import count_of

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2, task_pb2
    from swarmd.client.protocol import ProtocolClient

All = Annotated[bool, typer.Option("--all", help="Every task of the swarm.")]


@options.reaching_daemon
def cancel(
    swarm: options.Swarm = "",
    tasks: options.Tasks = None,
    arrays: options.Arrays = None,
    statuses: options.Statuses = None,
    everything: All = False,
    reason: options.Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --all.")] = False,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """End tasks for good; those that run are killed. What is given is combined: --array and --status mean both."""
    selector = _selector(tasks, arrays, statuses, everything=everything)
    if everything and not yes and is_terminal(sys.stderr) and sys.stdin.isatty():
        typer.confirm(f"Cancel every task of {swarm or 'the swarm'}?", abort=True, err=True)

    async def work(client: "ProtocolClient") -> "swarm_service_pb2.CancelTasksResponse":
        swarm_id = await find_swarm(client, swarm)
        return await client.cancel_tasks(swarm_id, await selector(client, swarm_id), reason=reason)

    answer = ask(daemon, work)
    if json_output:
        print_json(message_data(answer))
    else:
        final = f"; {answer.final_count:,} had ended already" if answer.final_count else ""
        print_line(f"{count_of(answer.cancelled_count, 'task')} cancelled{final}")


@options.reaching_daemon
def reset(
    swarm: options.Swarm = "",
    tasks: options.Tasks = None,
    arrays: options.Arrays = None,
    statuses: options.Statuses = None,
    everything: All = False,
    downstreams: Annotated[
        bool, typer.Option("--downstreams", help="Also all final tasks that come after a selected one.")
    ] = False,
    reason: options.Reason = "",
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Let tasks that ended run again, with all their attempts before them."""
    selector = _selector(tasks, arrays, statuses, everything=everything)

    async def work(client: "ProtocolClient") -> "swarm_service_pb2.ResetTasksResponse":
        swarm_id = await find_swarm(client, swarm)
        chosen = await selector(client, swarm_id)
        return await client.reset_tasks(swarm_id, chosen, include_downstreams=downstreams, reason=reason)

    answer = ask(daemon, work)
    if json_output:
        print_json(message_data(answer))
    else:
        others = f"; {answer.not_final_count:,} had not ended" if answer.not_final_count else ""
        ready = f", {answer.newly_ready_count:,} ready" if answer.newly_ready_count else ""
        print_line(f"{count_of(answer.reset_count, 'task')} reset{ready}{others}")


def _selector(
    tasks: list[int] | None, arrays: list[str] | None, statuses: list[str] | None, *, everything: bool
) -> "Callable[[ProtocolClient, str], Awaitable[task_pb2.TaskSelector]]":
    """Checks what can be checked without a daemon; what it gives asks the daemon for the arrays' ids."""
    if not (tasks or arrays or statuses or everything):
        raise UsageError("say which tasks: --task, --array, --status or --all")
    values = status_values(statuses)

    async def selector(client: "ProtocolClient", swarm_id: str) -> "task_pb2.TaskSelector":
        from swarmd._pb.swarm.v1 import task_pb2

        array_ids = await find_arrays(client, swarm_id, arrays or [])
        return task_pb2.TaskSelector(task_ids=tasks or [], array_ids=array_ids, statuses=values, all=everything)

    return selector


@options.reaching_daemon
def pause(
    swarm: options.Swarm = "", daemon: options.Daemon = options.ANYWHERE, json_output: options.Json = False
) -> None:
    """Queue nothing more until `swarmd resume`; what runs goes on."""
    _set_paused(swarm, daemon, json_output=json_output, paused=True)


@options.reaching_daemon
def resume(
    swarm: options.Swarm = "", daemon: options.Daemon = options.ANYWHERE, json_output: options.Json = False
) -> None:
    """Go on after `swarmd pause`."""
    _set_paused(swarm, daemon, json_output=json_output, paused=False)


def _set_paused(swarm: str, daemon: options.Daemon, *, json_output: bool, paused: bool) -> None:
    async def work(client: "ProtocolClient") -> "swarm_pb2.Swarm":
        from swarmd._pb.swarm.v1 import swarm_pb2

        chosen = swarm_pb2.Swarm(swarm_id=await find_swarm(client, swarm), paused=paused)
        return await client.update_swarm(chosen, ["paused"])

    changed = ask(daemon, work)
    if json_output:
        print_json(message_data(changed))
        return
    held = f"; still held: {changed.held_reason}" if changed.held_reason and not paused else ""
    print_line(f"{changed.swarm_id} {'is paused' if paused else 'goes on'}{held}")


@options.reaching_daemon
def delete(
    swarm: Annotated[str, typer.Argument(metavar="SWARM", help="The swarm's id or name.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Also when tasks are active: they are killed.")] = False,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Forget a swarm and all its tasks. Their output files stay."""

    async def work(client: "ProtocolClient") -> str:
        swarm_id = await find_swarm(client, swarm)
        await client.delete_swarm(swarm_id, force=force)
        return swarm_id

    deleted = ask(daemon, work)
    if json_output:
        print_json({"deleted": deleted})
    else:
        print_line(f"{deleted} is deleted")
