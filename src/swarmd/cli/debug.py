"""`swarmd debug dump`: everything that a bug report needs, in one file, with the secrets left out.

Asks the daemon twice: by gRPC as any client, and with SIGUSR1, upon which it writes what is inside of it into its state
directory. Works without a daemon, too: then there is what lies in the state directory.
"""

import contextlib
import os
import signal
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmd.addresses import client_address, daemons_state_directory
from swarmd.cli import options
from swarmd.cli.errors import sentence_of
from swarmd.cli.output import message_data, note, print_line
from swarmd.cli.processes import daemon_at, daemon_of, tell
from swarmd.core.errors import SwarmdError

if TYPE_CHECKING:
    from swarmd.client.protocol import ProtocolClient

app = typer.Typer(no_args_is_help=True, help="Find out what is wrong with a daemon.")

ANSWER_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 0.05
LARGEST_FILE = 64 * 1024 * 1024
SHOWN_SWARMS = 200
SHOWN_TASKS = 100
"""Of each swarm, with their commands."""
SECRET = "left out; --with-commands shows it"  # noqa: S105 - no password


@app.command()
@options.reaching_daemon
def dump(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to. Default: swarmd-debug-TIME.json, here."),
    ] = None,
    daemon: options.Daemon = options.ANYWHERE,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The daemon's state directory. Default: that of `swarmd serve`.", show_default=False
        ),
    ] = None,
    with_commands: Annotated[
        bool,
        typer.Option("--with-commands", help="Also commands, reasons and environment variables, which may be secret."),
    ] = False,
) -> None:
    """Write everything that a bug report needs into one JSON file. Read it before you send it to somebody.

    Tokens are never in it; commands, reasons and the values of environment variables only when you ask for them.
    """
    import asyncio

    from swarmd.observing.debugging import versions, write_private

    folder = (state_dir or daemons_state_directory()).absolute()
    told: dict[str, Any] = {
        "written_at": datetime.now(UTC).isoformat(),
        "versions": versions(),
        "by_grpc": asyncio.run(_asked(daemon, with_commands=with_commands)),
        "inside": _inside(daemon.address, folder),
        "state_directory": _state_directory(folder),
    }
    path = out or Path(f"swarmd-debug-{datetime.now():%Y%m%d-%H%M%S}.json")
    write_private(path, told)
    for part in ("by_grpc", "inside", "state_directory"):
        if "problem" in told[part]:
            note(f"{part}: {told[part]['problem']}")
    print_line(f"{path} is written; read it before you send it to somebody")


# -- by gRPC -----------------------------------------------------------------------------------------------------------


async def _asked(daemon: options.Daemon, *, with_commands: bool) -> dict[str, Any]:
    """What any client is told."""
    import asyncio

    from swarmd.client.protocol import ProtocolClient

    begun = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_SECONDS), ProtocolClient(daemon) as client:
            swarms = await client.list_swarms()
            told: dict[str, Any] = {
                "address": str(client.address),
                "seconds": time.perf_counter() - begun,
                "swarms": [_without_secrets(message_data(swarm)) for swarm in swarms[:SHOWN_SWARMS]],
            }
            if with_commands:
                ids = [swarm.swarm_id for swarm in swarms[:SHOWN_SWARMS]]
                told["with_commands"] = [await _in_full(client, swarm_id) for swarm_id in ids]
            return told
    except TimeoutError:
        return {"problem": f"no answer within {ANSWER_SECONDS:g} s"}
    except (SwarmdError, OSError) as error:
        return {"problem": sentence_of(error)}


async def _in_full(client: "ProtocolClient", swarm_id: str) -> dict[str, Any]:
    """A swarm with its commands, and the first of its tasks."""
    swarm = await client.get_swarm(swarm_id, full=True)
    tasks: list[dict[str, Any]] = []
    async for task in client.list_tasks(swarm_id, page_size=SHOWN_TASKS):
        if len(tasks) == SHOWN_TASKS:
            break
        tasks.append(message_data(await client.get_task(swarm_id=swarm_id, task_id=task.task_id)))
    return {"swarm": message_data(swarm), "tasks": tasks}


def _without_secrets(swarm: dict[str, Any]) -> dict[str, Any]:
    """A swarm's values but for those of its environment and its commands."""
    shown = dict(swarm)
    if isinstance(shown.get("environment"), dict):
        shown["environment"] = dict.fromkeys(shown["environment"], SECRET)
    if isinstance(shown.get("arrays"), list):
        shown["arrays"] = [{**array, "command": SECRET} for array in shown["arrays"]]
    return shown


# -- from inside -------------------------------------------------------------------------------------------------------


def _inside(address: str | None, folder: Path) -> dict[str, Any]:
    """What the daemon writes when it is told to."""
    from swarmd.observing.debugging import FILE_NAME

    try:
        pid = daemon_at(client_address(address)) or daemon_of(folder)
    except (SwarmdError, OSError) as error:
        return {"problem": sentence_of(error)}
    if pid is None:
        return {"problem": f"no daemon was found, neither at the address nor with {folder}"}
    path = folder / FILE_NAME
    before = _identity(path)
    if not tell(pid, signal.SIGUSR1):
        return {"pid": pid, "problem": f"process {pid} is no daemon of yours that can be asked"}
    return {"pid": pid, **_until_written(path, before, pid)}


def _until_written(path: Path, before: tuple[int, int] | None, pid: int) -> dict[str, Any]:
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        if _identity(path) not in (None, before):
            return _read(path)
        time.sleep(LOOK_AGAIN_SECONDS)
    stuck = f"its event loop may be stuck: `kill -USR2 {pid}` writes where it is to its log"
    return {"problem": f"it wrote no {path} within {ANSWER_SECONDS:g} s; give its --state-dir; or {stuck}"}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read(path: Path) -> dict[str, Any]:
    import json

    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_size > LARGEST_FILE:
            return {"problem": f"{path} is no file of yours, or too large"}
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {"problem": f"{path} cannot be read: {error}"}
    return told


# -- on disk -----------------------------------------------------------------------------------------------------------


def _state_directory(folder: Path) -> dict[str, Any]:
    """Names, sizes and times of what lies there."""
    from swarmd.host.facts import SHOWN_SWARMS as SHOWN_FOLDERS
    from swarmd.host.facts import files_below

    if not folder.is_dir():
        return {"path": str(folder), "problem": f"there is no state directory {folder}"}
    told: dict[str, Any] = {"path": str(folder), "files": files_below(folder)}
    with contextlib.suppress(OSError):
        told["format"] = (folder / "format").read_text()[:20].strip()
    with contextlib.suppress(OSError):
        swarms = sorted(path for path in (folder / "swarms").iterdir() if path.is_dir())
        told["swarms"] = {path.name: files_below(path) for path in swarms[:SHOWN_FOLDERS]}
    with contextlib.suppress(OSError):
        space = os.statvfs(folder)
        told["free_bytes"] = space.f_bavail * space.f_frsize
        told["free_inodes"] = space.f_favail
    return told
