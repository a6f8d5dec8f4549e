"""`swarmd logs`: what an attempt of a task has written, for gateways that keep it on this machine."""

import codecs
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from swarmd.cli import options
from swarmd.cli.connection import ask, find_swarm, find_task, swarm_and_task
from swarmd.cli.errors import NotThereError
from swarmd.cli.output import print_json
from swarmd.cli.text import coloured

if TYPE_CHECKING:
    from swarmd.client.protocol import ProtocolClient

POLL_SECONDS = 0.2
ASK_SECONDS = 1.0
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Output:
    """The file with the output, and whose it is."""

    path: Path
    task_id: int
    attempt: int
    is_over: bool


@options.reaching_daemon
def logs(
    words: options.SwarmAndTask,
    err: Annotated[bool, typer.Option("--err", "-e", help="The error output instead of the output.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", min=1, help="Of this attempt; default: the newest.")
    ] = None,
    path: Annotated[bool, typer.Option("--path", help="Print only where the file is.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the task runs.")] = False,
    daemon: options.Daemon = options.ANYWHERE,
    json_output: options.Json = False,
) -> None:
    """Print what a task has written."""
    swarm, task = swarm_and_task(words)

    async def work(client: "ProtocolClient") -> Output:
        swarm_id = await find_swarm(client, swarm)
        task_id = await find_task(client, swarm_id, task)
        found = await find_output(client, swarm_id, task_id, attempt=attempt, err=err)
        if follow and not (path or json_output):
            await _follow(client, swarm_id, found)
        return found

    found = ask(daemon, work)
    if path:
        print(found.path)
    elif json_output:
        text = _existing(found).read_bytes().decode(errors="replace")
        print_json({"taskId": str(found.task_id), "attempt": found.attempt, "path": str(found.path), "text": text})
    elif not follow:
        _copy(_existing(found), 0)


def output_path(log_directory: str, array_id: int, task_id: int, attempt: int, *, err: bool) -> Path:
    """Where the local gateway keeps what an attempt writes."""
    return Path(log_directory, str(array_id), f"{task_id}.{attempt}.{'err' if err else 'out'}")


async def find_output(
    client: "ProtocolClient", swarm_id: str, task_id: int, *, attempt: int | None, err: bool
) -> Output:
    """The file of an attempt, the newest one by default; raises NotThereError when there cannot be one."""
    swarm = await client.get_swarm(swarm_id)
    task = await client.get_task(swarm.swarm_id, task_id)
    if not swarm.log_directory:
        raise NotThereError(f"the gateway {swarm.gateway!r} keeps no output on this machine")
    if not task.attempt:
        raise NotThereError(f"task {task_id} has not been queued yet, so it has no output; see `swarmd explain`")
    number = attempt or task.attempt
    if number > task.attempt:
        raise NotThereError(f"task {task_id} had no attempt {number}; its newest is {task.attempt}")
    where = output_path(swarm.log_directory, task.array_id, task_id, number, err=err)
    return Output(where, task_id, number, is_over=number < task.attempt or _is_over(task.status))


def _is_over(status: int) -> bool:
    from swarmd._pb.swarm.v1 import task_pb2

    return status in {
        task_pb2.TASK_STATUS_REGISTERED,
        task_pb2.TASK_STATUS_DONE,
        task_pb2.TASK_STATUS_ERROR_FATAL,
        task_pb2.TASK_STATUS_CANCELLED,
    }


async def _follow(client: "ProtocolClient", swarm_id: str, found: Output) -> None:
    """Print what comes until the attempt is over, and what it wrote last."""
    import asyncio

    place, asked = 0, time.monotonic()
    while True:
        is_over = found.is_over
        place = _copy(found.path, place)
        if is_over:
            _existing(found)
            return
        await asyncio.sleep(POLL_SECONDS)
        if time.monotonic() - asked > ASK_SECONDS:
            err = found.path.suffix == ".err"
            found = await find_output(client, swarm_id, found.task_id, attempt=found.attempt, err=err)
            asked = time.monotonic()


def _existing(found: Output) -> Path:
    if not found.path.exists():
        raise NotThereError(f"attempt {found.attempt} of task {found.task_id} left no output at {found.path}")
    return found.path


def _copy(path: Path, start: int) -> int:
    """Copy the file from a place on to standard output; gives the place where it ended.

    Byte for byte, but for a terminal: what a task writes, which others may have thought of, must not play with it.
    """
    if not path.exists():
        return start
    sys.stdout.flush()
    with path.open("rb") as source:
        source.seek(start)
        end = _show(source, start) if sys.stdout.isatty() else start + _pass_on(source)
    sys.stdout.flush()
    return end


def _pass_on(source: BinaryIO) -> int:
    copied = 0
    while chunk := source.read(CHUNK_BYTES):
        copied += sys.stdout.buffer.write(chunk)
    return copied


def _show(source: BinaryIO, start: int) -> int:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while chunk := source.read(CHUNK_BYTES):
        sys.stdout.write(coloured(decoder.decode(chunk)))
        start += len(chunk)
    unfinished, _ = decoder.getstate()  # the rest of the character may still be on its way
    return start - len(unfinished)
