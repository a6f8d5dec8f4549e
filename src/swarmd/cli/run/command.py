"""`swarmd run`: its options, and the plan that they describe."""

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.errors import UsageError
from swarmd.core.policy import SchedulingPolicy

if TYPE_CHECKING:
    from swarmd.workflow.plan import WorkflowPlan


class OnStop(StrEnum):
    """What becomes of running tasks."""

    KILL = "kill"
    LEAVE = "leave"


JOBMON_PANEL = "Jobmon"
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
    gateway: Annotated[
        str, typer.Option("--gateway", help="The engine that runs the tasks; `swarmd gateways` lists those there are.")
    ] = "local",
    gateway_option: Annotated[
        list[str] | None,
        typer.Option("--gateway-option", metavar="KEY=VALUE", help="An option for the engine. May be repeated."),
    ] = None,
    jobmon: Annotated[
        int | None,
        typer.Option(
            "--jobmon",
            metavar="RUN",
            min=1,
            help="Run the workflow of this workflow run, which Jobmon's server has.",
            rich_help_panel=JOBMON_PANEL,
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="Where Jobmon's server is: http://HOST:PORT.", rich_help_panel=JOBMON_PANEL
        ),
    ] = None,
    workflow: Annotated[
        int | None,
        typer.Option(
            "--workflow",
            metavar="ID",
            min=1,
            help="The run's workflow. Default: the server is asked.",
            rich_help_panel=JOBMON_PANEL,
        ),
    ] = None,
    route_prefix: Annotated[
        str | None,
        typer.Option(
            "--route-prefix",
            metavar="PATH",
            help="What its routes begin with: /api/v3 for newer servers. Default: nothing, as for 3.2.2.",
            rich_help_panel=JOBMON_PANEL,
        ),
    ] = None,
    client_version: Annotated[
        str | None,
        typer.Option(
            "--client-version",
            metavar="VERSION",
            help="The client_jobmon_version that newer servers want to be told: 3.6.0.",
            rich_help_panel=JOBMON_PANEL,
        ),
    ] = None,
    no_distributor: Annotated[
        bool,
        typer.Option(
            "--no-distributor",
            help="Start no distributor: Jobmon's own for this run is started by somebody else.",
            rich_help_panel=JOBMON_PANEL,
        ),
    ] = False,
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
    scheduling_policy: Annotated[
        SchedulingPolicy | None,
        typer.Option(
            "--scheduling-policy",
            help="In which order ready tasks go. Default: what the file says, or first come, first served.",
        ),
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
    pairs = _pairs(gateway_option or [])
    of_jobmon = {
        "--server": server,
        "--workflow": workflow,
        "--route-prefix": route_prefix,
        "--client-version": client_version,
        "--no-distributor": no_distributor or None,
    }
    if jobmon is None:
        _refuse(of_jobmon, "{}: this is about --jobmon RUN, which is not given")
        plan = _plan(file, wfformat, time_scale, scheduling_policy)
    else:
        others: dict[str, object] = {"FILE": file, "--wfformat": wfformat, "--time-scale": time_scale}
        others |= {"-j": max_concurrently_running, "--gateway-option": pairs or None, "--local-cores": local_cores}
        others |= {"--gateway": None if gateway in ("local", "jobmon") else gateway}
        _refuse(others, "--jobmon: workflow, limits and engine are those of the run; leave out {}")
        from swarmd.cli.run.jobmon import checked_run, fetch

        fetched = fetch(checked_run(jobmon, server, workflow, route_prefix or "", client_version or ""))
        if not fetched.plan.tasks:
            raise typer.Exit(fetched.tell_that_nothing_is_left(as_json=json_output))
        fetched = fetched.with_distributor(wanted=not no_distributor)
        gateway, pairs, plan = "jobmon", fetched.options.as_options(), fetched.plan
    changes = {"name": name, "max_concurrently_running": max_concurrently_running, "fail_fast": fail_fast}
    changes |= {"scheduling_policy": scheduling_policy}
    plan = replace(plan, **{field: value for field, value in changes.items() if value is not None})  # type: ignore[arg-type]

    import asyncio

    from swarmd.cli.output import print_json
    from swarmd.cli.run.session import RunOptions, run_workflow
    from swarmd.cli.run.summary import print_summary, summary_data

    chosen = RunOptions(
        daemon=daemon,
        swarm_id=swarm_id,
        gateway=gateway,
        gateway_options=pairs,
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


def _refuse(given: Mapping[str, object], message: str) -> None:
    """Raise UsageError when any of these options was given."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise UsageError(message.format(", ".join(names)))


def _pairs(texts: list[str]) -> dict[str, str]:
    """KEY=VALUE, each key once. Raises UsageError."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"--gateway-option: {text!r} is not KEY=VALUE")
        if key in pairs:
            raise UsageError(f"--gateway-option: {key!r} is given twice; keep one of them")
        pairs[key] = value
    return pairs


def _plan(
    file: Path | None, wfformat: Path | None, time_scale: float | None, policy: SchedulingPolicy | None
) -> "WorkflowPlan":
    """Read the file. Raises UsageError, and WorkflowFileError for what is wrong in it."""
    if (file is None) == (wfformat is None):
        raise UsageError("name one workflow: FILE, or --wfformat FILE (see swarmd run --help)")
    if time_scale is not None and wfformat is None:
        raise UsageError("--time-scale is for --wfformat: a workflow file says itself what its tasks do")
    from swarmd.workflow import load_workflow, read_wfformat

    if wfformat is not None:
        scale = 1.0 if time_scale is None else time_scale
        return read_wfformat(wfformat, scale, policy or SchedulingPolicy.FIRST_COME_FIRST_SERVED)
    assert file is not None  # noqa: S101 (one of both is there)
    return load_workflow(file)
