"""`swarmd journal check | export | import`: looks at, saves and restores what a daemon keeps on disk.

Needs no daemon, and that none has the state directory. `check` and `export` work on a copy: SQLite would cut off the
torn end of a file that is merely looked at.
"""

import contextlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmd.addresses import daemons_state_directory
from swarmd.cli import options
from swarmd.cli.errors import ExitCode, NotThereError, UsageError
from swarmd.cli.output import note, print_json, print_line
from swarmd.cli.text import count_of

if TYPE_CHECKING:
    from swarmd.journal.directory import StateDirectory
    from swarmd.journal.store import SwarmStore

app = typer.Typer(no_args_is_help=True, help="Look at, save and restore what a daemon keeps on disk.")

StateDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="The daemon's state directory. Default: that of `swarmd serve`.", show_default=False
    ),
]


@app.command()
def check(
    swarm: Annotated[
        list[str] | None, typer.Argument(metavar="[SWARM]...", help="These swarms. Without any: all.")
    ] = None,
    state_dir: StateDir = None,
    json_output: options.Json = False,
) -> None:
    """Read journals to their end and say of each whether it is whole. Changes nothing."""
    with claimed(state_dir) as directory:
        stores = [directory.store(each) for each in swarm] if swarm else directory.stores()
        found = [_checked(store) for store in stores]
    if json_output:
        print_json({"swarms": found})
    elif not found:
        print_line(f"there are no swarms in {directory.swarms}")
    else:
        for each in found:
            print_line(_sentence(each), "red" if each["problem"] else "")
            for warning in each["warnings"]:
                print_line(f"  {warning}", "yellow")
    if any(each["problem"] for each in found):
        raise typer.Exit(ExitCode.NOT_DONE)


def _checked(store: "SwarmStore") -> dict[str, Any]:
    from swarmd.core.errors import SwarmdError

    told: dict[str, Any] = {"swarmId": store.folder.name, "folder": str(store.folder), "problem": "", "warnings": []}
    with copied(store) as copy:
        try:
            recovered = copy.recover()
        except SwarmdError as error:
            return told | {"problem": error.message.replace(str(copy.folder), str(store.folder))}
        warnings = [warning.replace(str(copy.folder), str(store.folder)) for warning in recovered.warnings]
        counts = {"events": recovered.seq, "sinceSnapshot": recovered.events, "lost": recovered.lost}
        return told | counts | {"tasks": recovered.swarm.state.task_count, "warnings": warnings}


def _sentence(found: dict[str, Any]) -> str:
    if found["problem"]:
        return f"{found['swarmId']}: damaged: {found['problem']}"
    events = f"{found['events']:,} events, {found['sinceSnapshot']:,} of them since the snapshot"
    return f"{found['swarmId']}: whole: {events}, {found['tasks']:,} tasks"


@app.command("export")
def export_journal(
    swarm: Annotated[str, typer.Argument(metavar="SWARM", help="The swarm's id.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to. Default: standard output.")
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Write everything of a swarm that can be read as JSON Lines; the exit code is 1 when something could not."""
    from swarmd.journal.exporting import exported, write_lines

    with claimed(state_dir) as directory:
        store = directory.store(swarm)
        with copied(store) as copy, out.open("w") if out else contextlib.nullcontext(sys.stdout) as file:
            problems = write_lines(exported(copy), file.write)
    for problem in problems:
        note(problem.replace(str(copy.folder), str(store.folder)))
    if problems:
        raise typer.Exit(ExitCode.NOT_DONE)


@app.command("import")
def import_journal(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `swarmd journal export` wrote.")],
    until: Annotated[
        int | None,
        typer.Option(metavar="EVENT", help="Leave out what is behind this event; the swarm is paused then."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move a swarm with the same id out of the way, and say where to.")
    ] = False,
    state_dir: StateDir = None,
) -> None:
    """Make a swarm of what was exported; the next daemon takes it up."""
    from swarmd.journal.exporting import imported
    from swarmd.journal.store import SwarmStore

    with claimed(state_dir) as directory, file.open() as lines:

        def make(swarm_id: str) -> SwarmStore:
            folder = directory.folder(swarm_id)
            if folder.exists():
                if not replace:
                    raise UsageError(f"there is a swarm {swarm_id} already; move {folder} away, or use --replace")
                aside = directory.path / "replaced" / f"{swarm_id}-{secrets.token_hex(4)}"
                aside.parent.mkdir(mode=0o700, exist_ok=True)
                folder.rename(aside)
                note(f"what was there is in {aside} now")
            return SwarmStore(folder)

        swarm_id, seq = imported(lines, make, until=until)
        recovered = directory.store(swarm_id).recover()
    told = f"{count_of(seq, 'event')}, {count_of(recovered.swarm.state.task_count, 'task')}"
    print_line(f"{swarm_id} is there again: {told}{', paused' if recovered.swarm.state.paused else ''}")


@contextlib.contextmanager
def claimed(state_dir: Path | None) -> "Iterator[StateDirectory]":
    """The state directory, which no daemon may have meanwhile."""
    from swarmd.journal.directory import StateDirectory

    path = state_dir or daemons_state_directory()
    if not path.is_dir():
        raise NotThereError(f"there is no state directory {path}")
    directory = StateDirectory(path)
    directory.claim()
    try:
        yield directory
    finally:
        directory.release()


@contextlib.contextmanager
def copied(store: "SwarmStore") -> "Iterator[SwarmStore]":
    """The same files elsewhere."""
    from swarmd.journal.store import SwarmStore

    with tempfile.TemporaryDirectory(prefix="swarmd-journal-") as scratch:
        folder = Path(scratch) / store.folder.name
        shutil.copytree(store.folder, folder)
        yield SwarmStore(folder)
