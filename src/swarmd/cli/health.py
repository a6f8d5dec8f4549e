"""`swarmd health`: whether a daemon serves, for probes of containers and for scripts that wait for one."""

import typer

from swarmd.cli import options
from swarmd.cli.connection import ask
from swarmd.cli.errors import ExitCode
from swarmd.cli.output import print_json, print_line


@options.reaching_daemon
def health(daemon: options.Daemon = options.ANYWHERE, json_output: options.Json = False) -> None:
    """Say whether the daemon serves: exit code 0 if so, 1 while it starts, drains or cannot write, 3 without one."""
    serving = ask(daemon, lambda client: client.is_serving())
    if json_output:
        print_json({"serving": serving})
    else:
        print_line("serving" if serving else "not serving")
    raise typer.Exit(ExitCode.OK if serving else ExitCode.NOT_DONE)
