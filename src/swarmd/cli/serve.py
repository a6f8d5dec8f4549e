"""`swarmd serve`: the daemon, with the settings of DaemonConfig as options."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from swarmd.config import DaemonConfig

ADDRESSES, LOCAL, LIFE, LIMITS, LOG = "Where", "Local gateway", "Life", "Bounds", "Log"


def serve(
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="unix:PATH or HOST:PORT; port 0 picks one. May be repeated. Default: your own socket.",
            rich_help_panel=ADDRESSES,
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where swarms and the output of tasks are kept. Default: ~/.local/state/swarmd.",
            rich_help_panel=ADDRESSES,
        ),
    ] = None,
    in_memory: Annotated[
        bool | None,
        typer.Option(
            "--in-memory", help="Keep no swarm on disk: all are gone when it ends.", rich_help_panel=ADDRESSES
        ),
    ] = None,
    ready_json: Annotated[
        bool | None,
        typer.Option(
            "--ready-json", help="Print the line that says where it listens as JSON.", rich_help_panel=ADDRESSES
        ),
    ] = None,
    channelz: Annotated[
        bool | None,
        typer.Option("--channelz", help="Serve channelz, gRPC's own statistics.", rich_help_panel=ADDRESSES),
    ] = None,
    local_cores: Annotated[
        int | None,
        typer.Option(metavar="N", help="Cores that tasks may use. Default: all.", rich_help_panel=LOCAL),
    ] = None,
    local_memory_mib: Annotated[
        int | None,
        typer.Option(
            metavar="MIB", help="Memory that tasks may set aside. Default: that of the machine.", rich_help_panel=LOCAL
        ),
    ] = None,
    kill_grace: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Between TERM and KILL for a task that is to end. Default: 5.",
            rich_help_panel=LOCAL,
        ),
    ] = None,
    on_stop: Annotated[
        str | None,
        typer.Option(
            metavar="kill|leave",
            help="Running tasks at a wanted stop: kill them, or leave them to the next daemon. Default: leave.",
            rich_help_panel=LOCAL,
        ),
    ] = None,
    drain_grace: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="How long a stop waits for calls under way. Default: 30.", rich_help_panel=LIFE
        ),
    ] = None,
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Stop when all swarms are finished and nobody has called for so long. Default: never.",
            rich_help_panel=LIFE,
        ),
    ] = None,
    max_in_flight: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Batches of one swarm that are queued at once. Default: 8.", rich_help_panel=LIMITS
        ),
    ] = None,
    max_message_bytes: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES", help="The largest message that is received. Default: 4 MiB.", rich_help_panel=LIMITS
        ),
    ] = None,
    max_swarms: Annotated[
        int | None, typer.Option(metavar="N", help="Swarms at once. Default: 1,000.", rich_help_panel=LIMITS)
    ] = None,
    max_tasks_per_swarm: Annotated[
        int | None, typer.Option(metavar="N", help="Tasks of one swarm. Default: 20,000,000.", rich_help_panel=LIMITS)
    ] = None,
    max_watchers_per_swarm: Annotated[
        int | None, typer.Option(metavar="N", help="Watchers of one swarm. Default: 1,000.", rich_help_panel=LIMITS)
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="debug, info, warning or error. Default: info.", rich_help_panel=LOG),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="console, json, or auto: for people on a terminal and JSON otherwise. Default: auto.",
            rich_help_panel=LOG,
        ),
    ] = None,
) -> None:
    """Serve until it is stopped; SIGTERM and Ctrl-C drain first, a second one ends it at once.

    What is not given here is taken from the environment: SWARMD_LOCAL_CORES for --local-cores, and so on.
    """
    config = config_of(locals())
    from swarmd.daemon import serve as serve_until_stopped

    raise typer.Exit(serve_until_stopped(config))


def config_of(given: dict[str, object]) -> "DaemonConfig":
    """The settings: what was given, then the environment, then the defaults. Raises UsageError."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from swarmd.config import DaemonConfig

    values = {name: value for name, value in given.items() if value not in (None, [])}
    try:
        return DaemonConfig(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise UsageError(_sentence(error, values)) from None
    except SettingsError as error:
        raise UsageError(f"{error}; in SWARMD_LISTEN write a JSON list of addresses") from None


def _sentence(error: "ValidationError", given: dict[str, object]) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # about several of them together
        return first["msg"].removeprefix("Value error, ")
    name = str(first["loc"][0])
    place = f"--{name.replace('_', '-')}" if name in given else f"SWARMD_{name.upper()}"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}; it is {first['input']!r}"
