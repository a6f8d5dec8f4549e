"""The entry of the command line: puts the commands together and turns errors into one line and an exit code."""

import os
import sys
from collections.abc import Sequence

import typer

from swarmd.cli import (
    about,
    changing,
    debug,
    gateways,
    health,
    journal,
    logs,
    protos,
    scheduling,
    serve,
    status,
    tasks,
    token,
    watch,
)
from swarmd.cli.errors import EPILOG, ExitCode, exit_code_of, sentence_of
from swarmd.cli.run.command import run
from swarmd.core.errors import SwarmdError

PROGRAM = "swarmd"
TRACEBACK_VARIABLE = "SWARMD_TRACEBACK"

app = typer.Typer(
    name=PROGRAM,
    help="Schedules workflows: a gRPC daemon that batches ready tasks within limits, and the commands to use it.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

RUNNING, LOOKING, CHANGING, OTHERS = "Run", "Look", "Change", "Other"

app.command("run", rich_help_panel=RUNNING)(run)
app.command("serve", rich_help_panel=RUNNING)(serve.serve)
app.command("status", rich_help_panel=LOOKING)(status.status)
app.command("tasks", rich_help_panel=LOOKING)(tasks.tasks)
app.command("explain", rich_help_panel=LOOKING)(tasks.explain)
app.command("watch", rich_help_panel=LOOKING)(watch.watch)
app.command("logs", rich_help_panel=LOOKING)(logs.logs)
app.command("cancel", rich_help_panel=CHANGING)(changing.cancel)
app.command("reset", rich_help_panel=CHANGING)(changing.reset)
app.command("pause", rich_help_panel=CHANGING)(changing.pause)
app.command("resume", rich_help_panel=CHANGING)(changing.resume)
app.command("delete", rich_help_panel=CHANGING)(changing.delete)
app.command("tick", rich_help_panel=CHANGING)(scheduling.tick)
app.command("has-work", rich_help_panel=LOOKING)(scheduling.has_work)
app.command("health", rich_help_panel=LOOKING)(health.health)
app.command("gateways", rich_help_panel=LOOKING)(gateways.gateways)
app.command("protos", rich_help_panel=OTHERS)(protos.protos)
app.add_typer(journal.app, name="journal", rich_help_panel=OTHERS)
app.add_typer(token.app, name="token", rich_help_panel=OTHERS)
app.add_typer(debug.app, name="debug", rich_help_panel=OTHERS)
app.command("config", rich_help_panel=OTHERS)(serve.config)
app.command("schema", rich_help_panel=OTHERS)(about.schema)
app.command("version", rich_help_panel=OTHERS)(about.version)


def main() -> None:
    """Run the command line of this process, and exit."""
    code = execute(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def execute(arguments: Sequence[str]) -> int:
    """Run one command; errors are told on standard error. Gives the exit code."""
    try:
        code = app(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} {_advice(error)}".strip(), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except (SwarmdError, OSError) as error:
        return _fail(sentence_of(error), exit_code_of(error))
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        advice = f"set {TRACEBACK_VARIABLE}=1 to see where, and please report it"
        return _fail(f"an error of swarmd itself: {type(error).__name__}: {error}; {advice}", ExitCode.BUG)
    return code if isinstance(code, int) else ExitCode.OK


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return code


def _advice(error: typer.TyperException) -> str:
    """Where to read how it is done right; empty when the error is of no command."""
    context = getattr(error, "ctx", None)
    return f"(see {context.command_path} --help)" if context is not None else ""
