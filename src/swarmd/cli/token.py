"""`swarmd token`: where the secrets are that let callers in over TCP, and new ones in their place."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from swarmd.addresses import daemons_state_directory
from swarmd.cli.output import note, print_line
from swarmd.cli.processes import daemon_of, tell
from swarmd.core.errors import StorageError

app = typer.Typer(no_args_is_help=True, help="The tokens that let callers in over TCP.")

StateDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The daemon's state directory. Default: that of `serve`.", show_default=False),
]


@app.command()
def path(
    state_dir: StateDir = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="That of the token that may look and not change.")
    ] = False,
) -> None:
    """Print the path of the token file."""
    from swarmd.tokens import READ_ONLY_NAME, TOKEN_NAME

    print_line(str(_folder(state_dir) / (READ_ONLY_NAME if read_only else TOKEN_NAME)))


@app.command()
def renew(state_dir: StateDir = None) -> None:
    """Make both tokens anew, and tell the daemon, if one is running; whoever has an old one is locked out.

    Calls under way go on to their ends.
    """
    from swarmd.ownership import make_private
    from swarmd.tokens import renew as renew_tokens

    folder = _folder(state_dir)
    try:
        renew_tokens(make_private(folder))
    except OSError as error:
        raise StorageError(
            f"{folder}: no tokens can be kept there ({error.strerror}); make room, or say where"
        ) from None
    pid = daemon_of(folder)
    if pid is None:
        note("no daemon uses this state directory now; the next one takes the new tokens")
    elif tell(pid, signal.SIGHUP):
        note(f"the daemon (process {pid}) takes them up")
    else:
        note(f"process {pid} could not be told: send it SIGHUP, until then the old tokens count")


def _folder(given: Path | None) -> Path:
    return (given or daemons_state_directory()).absolute()
