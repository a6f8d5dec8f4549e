"""`swarmd run`: its options, and the plan that they describe."""

import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.errors import UsageError

if TYPE_CHECKING:
    from swarmd.workflow.plan import WorkflowPlan


class OnStop(StrEnum):
    """What becomes of running tasks."""

    KILL = "kill"
    LEAVE = "leave"


SWARM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@options.reaching_daemon
def run(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The workflow file, YAML or JSON.", show_default=False)
    ] = None,
    wfformat: Annotated[
        Path | None,
        typer.Option("--wfformat", metavar="FILE", help="Replay a workflow that was recorded in WfFormat 1.5 instead."),
    ] = None,
    time_scale: Annotated[
        float | None,
        typer.Option(
            "--time-scale", metavar="X", min=0, help="With --wfformat: sleep the recorded times X. Default: 1."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The workflow's name, instead of the file's.")] = None,
    swarm_id: Annotated[
        str,
        typer.Option(
            "--swarm-id", metavar="ID", help="The swarm's id. Default: made from the name.", show_default=False
        ),
    ] = "",
    gateway: Annotated[str, typer.Option("--gateway", help="The engine that runs the tasks.")] = "local",
    local_cores: Annotated[
        int | None,
        typer.Option("--local-cores", metavar="N", min=1, help="Cores to use, when a daemon is started for the run."),
    ] = None,
    on_stop: Annotated[
        OnStop,
        typer.Option("--on-stop", help="What a daemon started for the run does with running tasks when it is stopped."),
    ] = OnStop.KILL,
    max_concurrently_running: Annotated[
        int | None,
        typer.Option("--max-concurrently-running", "-j", metavar="N", min=0, help="At most so many tasks at once."),
    ] = None,
    fail_fast: Annotated[
        bool | None,
        typer.Option("--fail-fast/--no-fail-fast", help="After the first failed task start nothing more."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the swarm, and a daemon started for it, when it is finished.")
    ] = False,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Run a workflow and watch it; Ctrl-C asks whether to cancel it or to let it go on.

    Uses the daemon that is there, or starts one for the time of the run. The exit code is 0 only when all tasks are
    done.
    """
    if swarm_id and not SWARM_ID.fullmatch(swarm_id):
        raise UsageError("--swarm-id: at most 63 letters, digits, '.', '_' and '-', beginning with a letter or digit")
    plan = _plan(file, wfformat, time_scale)
    changes = {"name": name, "max_concurrently_running": max_concurrently_running, "fail_fast": fail_fast}
    plan = replace(plan, **{field: value for field, value in changes.items() if value is not None})  # type: ignore[arg-type]

    import asyncio

    from swarmd.cli.output import print_json
    from swarmd.cli.run.session import RunOptions, run_workflow
    from swarmd.cli.run.summary import print_summary, summary_data

    chosen = RunOptions(
        daemon=daemon,
        swarm_id=swarm_id,
        gateway=gateway,
        local_cores=local_cores,
        on_stop=on_stop.value,
        keep=keep,
    )
    report = asyncio.run(run_workflow(plan, chosen))
    if json_output:
        print_json(summary_data(report))
    else:
        print_summary(report)
    raise typer.Exit(report.exit_code)


def _plan(file: Path | None, wfformat: Path | None, time_scale: float | None) -> "WorkflowPlan":
    """Read the file. Raises UsageError, and WorkflowFileError for what is wrong in it."""
    if (file is None) == (wfformat is None):
        raise UsageError("name one workflow: FILE, or --wfformat FILE (see swarmd run --help)")
    if time_scale is not None and wfformat is None:
        raise UsageError("--time-scale is for --wfformat: a workflow file says itself what its tasks do")
    from swarmd.workflow import load_workflow, read_wfformat

    if wfformat is not None:
        return read_wfformat(wfformat, 1.0 if time_scale is None else time_scale)
    assert file is not None  # noqa: S101 (one of both is there)
    return load_workflow(file)
