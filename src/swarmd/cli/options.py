"""Options and arguments that several commands share, and how they reach a daemon."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from swarmd.client.finding import ConnectionSettings

Daemon = ConnectionSettings
"""Where the daemon is, as the options of `reaching_daemon` say it."""
ANYWHERE = ConnectionSettings()
"""Nothing was said: what the environment says counts."""

PANEL = "Daemon"

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="ADDRESS",
        help="Where it is: unix:PATH or HOST:PORT. Default: $SWARMD_ADDRESS, or where your own daemon listens.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="The token to show over TCP. Default: $SWARMD_TOKEN, $SWARMD_TOKEN_FILE, or that of your own daemon.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Tls = Annotated[
    bool | None,
    typer.Option(
        "--tls",
        help="Use TLS and trust the system's CAs. Default: with --tls-ca, --tls-cert or $SWARMD_CLIENT_TLS.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        help="PEM: the CA that its certificate is checked with. Default: $SWARMD_TLS_CA.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        help="PEM: your own certificate, for mutual TLS. Default: $SWARMD_CLIENT_CERT.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        "--tls-key",
        metavar="FILE",
        help="PEM: its key. Default: $SWARMD_CLIENT_KEY.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TlsServerName = Annotated[
    str | None,
    typer.Option(
        "--tls-server-name",
        metavar="NAME",
        help="The name in its certificate. Default: $SWARMD_CLIENT_SERVER_NAME, or the host.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Insecure = Annotated[
    bool | None,
    typer.Option(
        "--insecure",
        help="Send the token in the clear, to another machine too. Default: $SWARMD_CLIENT_INSECURE, or not.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
_OPTION_OF = {
    "address": Address,
    "token_file": TokenFile,
    "tls": Tls,
    "tls_ca": TlsCa,
    "tls_cert": TlsCert,
    "tls_key": TlsKey,
    "tls_server_name": TlsServerName,
    "insecure": Insecure,
}

R = TypeVar("R")


def reaching_daemon(command: Callable[..., R]) -> Callable[..., R]:
    """The command with the options that say where the daemon is, in the place of its parameter `daemon`."""

    @functools.wraps(command)
    def with_options(**given: object) -> R:
        said = {name: given.pop(name, None) for name in _OPTION_OF}
        return command(**given, daemon=ConnectionSettings(**said))  # type: ignore[arg-type]

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        parameters += _options() if parameter.name == "daemon" else [parameter]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def _options() -> list[inspect.Parameter]:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in _OPTION_OF.items()]


Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
Swarm = Annotated[
    str, typer.Argument(metavar="[SWARM]", help="The swarm's id or name. May be left out where there is only one.")
]
SwarmAndTask = Annotated[
    list[str],
    typer.Argument(
        metavar="[SWARM] TASK",
        help="The task's id, or its name; before it the swarm's, which may be left out where there is only one.",
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
