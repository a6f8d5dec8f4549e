"""The settings of the daemon as options of a command: one table, used by `swarmd serve` and `swarmd config`.

Stands apart from `swarmd.config`, which says types, bounds and defaults, so that help needs no pydantic; a test holds
the one against the other.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:
    from swarmd.settings import Settings

WHERE, ACCESS, LIFE, LOCAL, BOUNDS, SIGHT = (
    "Where",
    "Who may call",
    "Life",
    "Local gateway",
    "Bounds",
    "Log and metrics",
)

Kind = Literal["flag", "text", "texts", "path", "whole", "number"]

_TYPES: dict[Kind, Any] = {
    "flag": bool | None,
    "text": str | None,
    "texts": list[str] | None,
    "path": Path | None,
    "whole": int | None,
    "number": float | None,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as an option."""

    name: str
    kind: Kind
    panel: str
    help: str
    metavar: str = ""

    @property
    def parameter(self) -> inspect.Parameter:
        """As typer reads it from a function's signature."""
        import typer  # not for `swarmd serve`, which starts without it

        words = self.name.replace("_", "-")
        option = typer.Option(
            f"--{words}/--no-{words}" if self.kind == "flag" else f"--{words}",
            metavar=self.metavar or None,
            help=self.help,
            rich_help_panel=self.panel,
            show_default=False,
        )
        made: Any = Annotated  # the checker takes a subscript for a type that it should know
        annotation = made[_TYPES[self.kind], option]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


CONFIG = Setting(
    "config",
    "path",
    WHERE,
    "Settings in TOML, by the names of these options with '_'. Default: swarmd/config.toml in $XDG_CONFIG_HOME, or "
    "~/.config, if it is there.",
    "FILE",
)

SETTINGS = (
    Setting(
        "listen",
        "texts",
        WHERE,
        "unix:PATH or HOST:PORT; port 0 picks one. May be repeated. Default: your own socket.",
        "ADDRESS",
    ),
    Setting(
        "state_dir",
        "path",
        WHERE,
        "Where swarms, tokens and the output of tasks are kept. Default: ~/.local/state/swarmd.",
        "DIR",
    ),
    Setting("in_memory", "flag", WHERE, "Keep no swarm on disk: all are gone when it ends."),
    Setting("tls_cert", "path", ACCESS, "The certificate chain to show over TCP, PEM. Loaded again at SIGHUP.", "FILE"),
    Setting("tls_key", "path", ACCESS, "Its key, PEM; nobody else may read the file.", "FILE"),
    Setting(
        "tls_client_ca",
        "path",
        ACCESS,
        "Mutual TLS: over TCP only clients with a certificate of this CA get in; they need no token.",
        "FILE",
    ),
    Setting(
        "insecure",
        "flag",
        ACCESS,
        "Ask nobody for a token over TCP. WHOEVER CAN CONNECT, OTHER USERS OF THIS MACHINE TOO, CAN RUN COMMANDS AS "
        "YOU.",
    ),
    Setting("ready_json", "flag", LIFE, "Print the line that says that it is ready, and where, as JSON."),
    Setting("ready_fd", "whole", LIFE, "Write that JSON line to this file descriptor, too, and close it.", "N"),
    Setting(
        "exit_with_parent",
        "flag",
        LIFE,
        "Drain and end when standard input, if it is a pipe, is at its end, or the process that started it is gone.",
    ),
    Setting(
        "idle_timeout",
        "number",
        LIFE,
        "Stop when all swarms are finished and nobody has called for so long. Default: never.",
        "SECONDS",
    ),
    Setting("drain_grace", "number", LIFE, "How long a stop waits for calls under way. Default: 30.", "SECONDS"),
    Setting("local_cores", "whole", LOCAL, "Cores that tasks may use. Default: all.", "N"),
    Setting("local_memory_mib", "whole", LOCAL, "Memory that tasks may set aside. Default: the machine's.", "MIB"),
    Setting("kill_grace", "number", LOCAL, "Between TERM and KILL for a task that is to end. Default: 5.", "SECONDS"),
    Setting(
        "on_stop",
        "text",
        LOCAL,
        "Running tasks at a wanted stop: kill them, or leave them to the next daemon. Default: leave.",
        "kill|leave",
    ),
    Setting("max_in_flight", "whole", BOUNDS, "Batches of one swarm that are queued at once. Default: 8.", "N"),
    Setting("max_message_bytes", "whole", BOUNDS, "The largest message that is received. Default: 4 MiB.", "BYTES"),
    Setting("max_swarms", "whole", BOUNDS, "Swarms at once. Default: 1,000.", "N"),
    Setting("max_tasks_per_swarm", "whole", BOUNDS, "Tasks of one swarm. Default: 20,000,000.", "N"),
    Setting("max_watchers_per_swarm", "whole", BOUNDS, "Watchers of one swarm. Default: 1,000.", "N"),
    Setting(
        "max_queued_bytes_per_watcher",
        "whole",
        BOUNDS,
        "How far a watcher may fall behind before it is ended with its resume point. Default: 16 MiB.",
        "BYTES",
    ),
    Setting("max_concurrent_streams", "whole", BOUNDS, "Calls under way at once. Default: 1,000.", "N"),
    Setting("max_connections", "whole", BOUNDS, "Connections over TCP, and of each socket file. Default: 1,000.", "N"),
    Setting(
        "max_requests_per_second", "number", BOUNDS, "Calls a second of one client. Default: as many as it likes.", "N"
    ),
    Setting("max_name_bytes", "whole", BOUNDS, "Names of tasks. Default: 1,024.", "BYTES"),
    Setting("max_label_bytes", "whole", BOUNDS, "Names of swarms, arrays, queues. Default: 256.", "BYTES"),
    Setting("max_command_bytes", "whole", BOUNDS, "Commands. Default: 131,072.", "BYTES"),
    Setting("max_reason_bytes", "whole", BOUNDS, "Reasons. Default: 4,096.", "BYTES"),
    Setting("max_environment_bytes", "whole", BOUNDS, "The environment of one swarm. Default: 65,536.", "BYTES"),
    Setting("log_level", "text", SIGHT, "debug (tells each call), info, warning or error. Default: info.", "LEVEL"),
    Setting(
        "log_format",
        "text",
        SIGHT,
        "console, json, or auto: for people on a terminal and JSON otherwise. Default: auto.",
        "FORMAT",
    ),
    Setting("metrics", "text", SIGHT, "Serve metrics for Prometheus at this address. Default: nowhere.", "HOST:PORT"),
    Setting(
        "otlp_endpoint",
        "text",
        SIGHT,
        "Send traces to this OpenTelemetry collector, http://HOST:PORT; needs the extra `otel`. Default: nowhere.",
        "URL",
    ),
    Setting("channelz", "flag", SIGHT, "Serve channelz, gRPC's own statistics."),
)


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all settings as options; it gets them as keyword arguments, None for what was not given."""
    signature = inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*own, *(setting.parameter for setting in (CONFIG, *SETTINGS))]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def resolved(given: dict[str, Any]) -> "Settings":
    """The settings that these options, the environment and the file come to. Raises InvalidInputError."""
    from swarmd.settings import resolve

    options = {name: value for name, value in given.items() if value not in (None, [])}
    return resolve(options, config=options.pop("config", None))
