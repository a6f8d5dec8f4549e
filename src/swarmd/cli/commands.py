"""The commands, put together: which there are, where each lives, and what the list of all says of it.

A command's module is imported when that command is called, so that help, completion and every other command start fast.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

from swarmd.cli.errors import EPILOG

PROGRAM = "swarmd"
RUN, LOOK, CHANGE, OTHER = "Run", "Look", "Change", "Other"


@dataclass(frozen=True, slots=True)
class Entry:
    """One command or group of commands."""

    name: str
    place: str
    """`module:name`: a function, or a Typer for a group."""
    panel: str
    help: str
    """The first paragraph of its help."""


ENTRIES = (
    Entry(
        "run",
        "run.command:run",
        RUN,
        "Run a workflow and watch it; Ctrl-C asks whether to cancel it or to let it go on.",
    ),
    Entry(
        "serve",
        "serve:serve",
        RUN,
        "Serve until it is stopped; SIGTERM and Ctrl-C drain first, a second one ends it at once.",
    ),
    Entry("status", "status:status", LOOK, "Show how all swarms stand, or one of them with its arrays."),
    Entry(
        "tasks",
        "tasks:tasks",
        LOOK,
        "List tasks, all of them or by status and array; --json prints one JSON object a line.",
    ),
    Entry("explain", "tasks:explain", LOOK, "Say why a task is not running, and what became of its attempts."),
    Entry(
        "watch",
        "watch:watch",
        LOOK,
        "Follow a swarm until it is finished, a line for each change; goes on where it was after a lost connection.",
    ),
    Entry("logs", "logs:logs", LOOK, "Print what a task has written."),
    Entry(
        "cancel",
        "changing:cancel",
        CHANGE,
        "End tasks for good; those that run are killed. What is given is combined: --array and --status mean both.",
    ),
    Entry("reset", "changing:reset", CHANGE, "Let tasks that ended run again, with all their attempts before them."),
    Entry("pause", "changing:pause", CHANGE, "Queue nothing more until `swarmd resume`; what runs goes on."),
    Entry("resume", "changing:resume", CHANGE, "Go on after `swarmd pause`."),
    Entry("delete", "changing:delete", CHANGE, "Forget a swarm and all its tasks. Their output files stay."),
    Entry(
        "tick",
        "scheduling:tick",
        CHANGE,
        "Queue what is ready, once. With autopilot on (as `swarmd run` has it) the daemon does this by itself.",
    ),
    Entry(
        "has-work",
        "scheduling:has_work",
        LOOK,
        "Say whether a tick would queue something: exit code 0 if it would, 1 if not.",
    ),
    Entry(
        "health",
        "health:health",
        LOOK,
        "Say whether the daemon serves: exit code 0 if so, 1 while it starts, drains or cannot write, 3 without one.",
    ),
    Entry(
        "gateways",
        "gateways:gateways",
        LOOK,
        "List the engines that a daemon with this config file has here, whether each can be used, and why not.",
    ),
    Entry(
        "protos",
        "protos:protos",
        OTHER,
        "Write the daemon's contract, for clients in other languages and for grpcurl.",
    ),
    Entry(
        "config",
        "serve:config",
        OTHER,
        "Show the settings that `serve` with the same options would have here, and where each comes from.",
    ),
    Entry("schema", "about:schema", OTHER, "Print the JSON Schema of the workflow file, for editors and checkers."),
    Entry("version", "about:version", OTHER, "Print the version."),
    Entry("journal", "journal:app", OTHER, "Look at, save and restore what a daemon keeps on disk."),
    Entry("token", "token:app", OTHER, "The tokens that let callers in over TCP."),
    Entry("debug", "debug:app", OTHER, "Find out what is wrong with a daemon."),
)


class Unloaded(TyperCommand):
    """A command of which nothing is known but its place in the list; what is done with it is done with the whole."""

    def __init__(self, entry: Entry, markup: Any) -> None:
        super().__init__(entry.name, help=entry.help, rich_help_panel=entry.panel, rich_markup_mode=markup)
        self._entry = entry

    def make_context(self, *arguments: Any, **extra: Any) -> Any:
        return self.loaded().make_context(*arguments, **extra)

    def loaded(self) -> TyperCommand | TyperGroup:
        """The command as its module has it."""
        module, _, name = self._entry.place.partition(":")
        found = getattr(import_module(f"swarmd.cli.{module}"), name)
        made: Any
        if isinstance(found, typer.Typer):
            made = get_group(found)
            made.name = self._entry.name
        else:
            info = CommandInfo(name=self._entry.name, callback=found, rich_help_panel=self._entry.panel)
            made = get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=self.rich_markup_mode)
        command: TyperCommand | TyperGroup = made
        return command


class Commands(TyperGroup):
    """All of them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for entry in ENTRIES:
            self.add_command(Unloaded(entry, self.rich_markup_mode))


app = typer.Typer(
    name=PROGRAM,
    cls=Commands,
    help="Schedules workflows: a gRPC daemon that batches ready tasks within limits, and the commands to use it.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


@app.callback()
def _all() -> None:
    """Nothing is done before a command."""
