"""What a gateway has still to do for swarms that are gone: a file each, in its folder of the state directory.

A gateway that finds such files when it starts goes on with them; the catalogue makes it with the daemon then.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swarmd.gateways.catalogue import LEFT

log = logging.getLogger(__name__)

GIVE_UP_SECONDS = 86_400.0
"""What could not be done for so long is done no more."""


class LeftFiles:
    """Those of one gateway."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when something is kept."""
        self._folder = folder

    async def keep(self, what: Mapping[str, Any], whose: str) -> str:
        """Write it down; it is durable on return. Gives the name to forget it by.

        When that cannot be, the log says what it means for what is `whose`.
        """
        name = secrets.token_hex(16)
        try:
            await asyncio.to_thread(write_whole, self._path(name), json.dumps(what))
        except OSError as error:
            warning = "what is to be ended of %s cannot be written down (%s): it runs on if the daemon ends before"
            log.warning(warning, whose, error)
        return name

    async def forget(self, name: str) -> None:
        """It was done, or there is no use in it."""
        try:
            await asyncio.to_thread(self._path(name).unlink, missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed: %s; the next daemon does it once more", self._path(name), error)

    async def read(self) -> dict[str, Any]:
        """What earlier daemons have kept, by name. Of what cannot be read the log tells."""
        return await asyncio.to_thread(self._read_all)

    def _read_all(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in sorted(self._folder.glob(f"*{LEFT}")):
            try:
                found[path.name.removesuffix(LEFT)] = json.loads(path.read_text())
            except IsADirectoryError:
                continue  # the folder of a swarm with such a name
            except (OSError, ValueError) as error:
                warning = "%s cannot be read (%s): tasks of a deleted swarm may run on; look there, and remove it"
                log.warning(warning, path, error)
        return found

    def _path(self, name: str) -> Path:
        return self._folder / (name + LEFT)


def write_whole(path: Path, text: str) -> None:
    """The whole of it or nothing, also when the power goes. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{secrets.token_hex(8)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
