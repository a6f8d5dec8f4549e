"""The file that a daemon writes of itself when it is asked to (SIGUSR1), for `swarmd debug dump`.

What is there now is looked at in the event loop; looking for private texts in the log, of which there may be very many,
and writing are for a thread.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from swarmd.host.facts import facts_of, private_texts
from swarmd.host.registry import Registry
from swarmd.loggers import get_logger
from swarmd.logs import recent_lines
from swarmd.observing import debugging

log = get_logger("swarmd.daemon")


def begin_writing(folder: Path, registry: Registry, own: Mapping[str, object]) -> "asyncio.Task[None]":
    """Gather the facts, with the daemon's own, and write them into the folder; the task ends when that is done."""
    facts = {
        "versions": debugging.versions(),
        "process": debugging.process_facts(),
        **own,
        "daemon": facts_of(registry),
        "threads": debugging.thread_stacks(),
        "tasks": debugging.task_stacks(),
    }
    path, private, lines = folder / debugging.FILE_NAME, private_texts(registry), recent_lines()
    return asyncio.create_task(asyncio.to_thread(_write, path, facts, private, lines))


def _write(path: Path, facts: Mapping[str, object], private: Sequence[str], lines: Sequence[str]) -> None:
    try:
        debugging.write_private(path, {**facts, "log": debugging.without(private, lines)})
    except OSError as error:
        log.warning("the debug file could not be written", path=str(path), error=error.strerror)
    else:
        log.info("the debug file was written", path=str(path))
