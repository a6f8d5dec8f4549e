"""The entry of the command line: finds the command, and turns errors into one line and an exit code."""

import gc
import os
import sys
from collections.abc import Sequence

from swarmd.cli.errors import ExitCode, exit_code_of, sentence_of
from swarmd.core.errors import SwarmdError

PROGRAM = "swarmd"
TRACEBACK_VARIABLE = "SWARMD_TRACEBACK"
GC_FIRST_THRESHOLD = 50_000
"""What is imported stays: with Python's own 700 the collector goes through all of it again and again meanwhile."""


def main() -> None:
    """Run the command line of this process, and exit."""
    gc.set_threshold(GC_FIRST_THRESHOLD, 20, 20)
    code = execute(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def execute(arguments: Sequence[str]) -> int:
    """Run one command; errors are told on standard error. Gives the exit code."""
    try:
        return _done(list(arguments))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (SwarmdError, OSError) as error:
        return _fail(sentence_of(error), exit_code_of(error))
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        advice = f"set {TRACEBACK_VARIABLE}=1 to see where, and please report it"
        return _fail(f"an error of swarmd itself: {type(error).__name__}: {error}; {advice}", ExitCode.BUG)


def _done(arguments: list[str]) -> int:
    from swarmd.cli.serving import serve, settings_of

    settings = settings_of(arguments)
    return _done_by_typer(arguments) if settings is None else serve(settings)


def _done_by_typer(arguments: list[str]) -> int:
    import typer

    from swarmd.cli.commands import app

    try:
        code = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        # Where to read how it is done right; nowhere when the error is of no command.
        context = getattr(error, "ctx", None)
        advice = f"(see {context.command_path} --help)" if context is not None else ""
        return _fail(f"{error.format_message()} {advice}".strip(), error.exit_code)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    return code if isinstance(code, int) else ExitCode.OK


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return code
