"""Options and arguments that several commands share."""

from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="ADDRESS",
        help="Where the daemon is: unix:PATH or HOST:PORT. Default: $SWARMD_ADDRESS, or else your own socket.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
Swarm = Annotated[
    str, typer.Argument(metavar="[SWARM]", help="The swarm's id. May be left out where there is only one.")
]
SwarmAndTask = Annotated[
    list[str],
    typer.Argument(
        metavar="[SWARM] TASK",
        help="The task's id, or its name; before it the swarm's id, which may be left out where there is only one.",
    ),
]
Tasks = Annotated[
    list[int] | None, typer.Option("--task", "-t", metavar="ID", help="This task. May be repeated.", show_default=False)
]
Arrays = Annotated[
    list[str] | None,
    typer.Option("--array", metavar="ARRAY", help="Tasks of this array: its name or id. May be repeated."),
]
Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        "-s",
        metavar="STATUS",
        help="Tasks in this status: its name (running, error_fatal, ...) or letter (R, F, ...). May be repeated.",
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with each task.")]
