"""How far an engine's news was read: the resume token from which the stream goes on after a loss or a restart.

Two places are told apart. `latest` is behind the last message that was read; a stream that was lost goes on there. The
place on disk is behind the last message before which everything is durable in the journals of its swarms; the next
daemon goes on there, and is told again what came after it, which does no harm: all news carries attempts.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmd.core.errors import StorageError
from swarmd.gateways.left import write_whole

log = logging.getLogger(__name__)

SAVE_SECONDS = 1.0
"""How often the place is written down, at most."""
MOST_BEHIND = 2000
"""So many messages may wait for their journal before no more are read."""
FORGET_SECONDS = 30 * 86_400.0
"""A swarm that no daemon has taken up for so long does not come back."""

Written = asyncio.Future[Any]
"""Done when a piece of news is durable."""


@dataclass(slots=True)
class Kept:
    """What the file holds."""

    resume_token: str = ""
    swarms: dict[str, float] = field(default_factory=dict)
    """The durable swarms that have work at the engine, and when a daemon had each last: their news must not be passed
    over by a daemon that has not taken them up yet."""


class Bookmark:
    """The places of one engine; `path` is its file."""

    def __init__(self, path: Path, address: str) -> None:
        self.latest = ""
        self._path = path
        self._address = address
        self._kept = Kept()
        self._on_disk = Kept()
        self._expected: set[str] = set()
        self._passed_over: set[str] = set()
        self._behind: deque[tuple[str, list[Written]]] = deque()
        self._saving: asyncio.Task[None] | None = None
        self._saved = asyncio.Condition()
        self._failure: OSError | None = None
        self._hurry = asyncio.Event()
        self._is_closing = False

    async def load(self) -> None:
        """What an earlier daemon left. Raises StorageError when it cannot be read."""
        try:
            self._kept = await asyncio.to_thread(_read, self._path)
        except OSError as error:
            message = f"{self._path} cannot be read ({error}): nobody knows how far the news of that engine was heard"
            raise StorageError(message) from error
        self._on_disk = Kept(self._kept.resume_token, dict(self._kept.swarms))
        long_ago = time.time() - FORGET_SECONDS
        self._expected = {wire_id for wire_id, at in self._kept.swarms.items() if at > long_ago}
        self._kept.swarms = {wire_id: self._kept.swarms[wire_id] for wire_id in self._expected}
        self.latest = self._kept.resume_token

    # -- swarms ------------------------------------------------------------------------------------------------------

    def add(self, wire_id: str) -> bool:
        """A durable swarm is there. True when news of it was passed over: `latest` is then where that was."""
        self._expected.discard(wire_id)
        self._kept.swarms[wire_id] = time.time()
        self._save_soon()
        if wire_id not in self._passed_over:
            return False
        self._passed_over.clear()
        self.latest = self._kept.resume_token
        self._behind.clear()
        return True

    def drop(self, wire_id: str) -> None:
        """It is gone for good."""
        self._expected.discard(wire_id)
        self._passed_over.discard(wire_id)
        self._kept.swarms.pop(wire_id, None)
        self._save_soon()

    def is_expected(self, wire_id: str) -> bool:
        """Whether it is a swarm that was there, and that this daemon has not taken up yet."""
        return wire_id in self._expected

    async def until_kept(self, wire_id: str) -> None:
        """Wait until the swarm and a place are on disk: before, a crash could lose news. Raises OSError."""
        async with self._saved:
            while not self._is_kept(wire_id):
                self._hurry.set()
                self._save_soon()
                await self._saved.wait()
                if self._failure is not None and not self._is_kept(wire_id):
                    raise self._failure

    def _is_kept(self, wire_id: str) -> bool:
        return wire_id in self._on_disk.swarms and (bool(self._on_disk.resume_token) or not self.latest)

    # -- places ------------------------------------------------------------------------------------------------------

    def pass_over(self, wire_id: str) -> None:
        """News of an expected swarm comes next, which nobody takes yet: the place on disk stays before it."""
        if self._kept.resume_token:
            self._passed_over.add(wire_id)

    async def passed(self, token: str, written: list[Written]) -> None:
        """A message was read. Waits when too many are not durable yet."""
        self.latest = token or self.latest
        if self._passed_over:
            return
        self._behind.append((token, written))
        for each in written:
            each.add_done_callback(self._advance)
        self._advance()
        while len(self._behind) > MOST_BEHIND:
            await asyncio.wait(self._behind[0][1])
            self._advance()

    def _advance(self, _: object = None) -> None:
        if self._is_closing:
            return  # news that is given up when its journal is closed counts as done, and was never written
        while self._behind and all(each.done() for each in self._behind[0][1]):
            token, _written = self._behind.popleft()
            if token and token != self._kept.resume_token:
                self._kept.resume_token = token
                self._save_soon()

    # -- the disk ----------------------------------------------------------------------------------------------------

    def _save_soon(self) -> None:
        if self._saving is None and (self._kept.swarms or self._on_disk.swarms):
            self._saving = asyncio.create_task(self._save(), name=f"bookmark {self._address}")

    async def _save(self) -> None:
        try:
            while self._kept != self._on_disk:
                self._hurry.clear()
                await self._save_once()
                if self._is_closing:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SAVE_SECONDS):
                        await self._hurry.wait()
        finally:
            self._saving = None

    async def _save_once(self) -> None:
        kept = Kept(self._kept.resume_token, dict(self._kept.swarms))
        failure = await asyncio.to_thread(_try_to_write, self._path, self._address, kept)
        if failure is None:
            self._on_disk = kept
        elif self._failure is None:
            log.warning("%s cannot be written (%s): no batch goes to that engine", self._path, failure)
        self._failure = failure
        async with self._saved:
            self._saved.notify_all()

    async def close(self) -> None:
        """Write down what is to be, once more."""
        self._is_closing = True
        self._hurry.set()
        if self._saving is not None:
            await asyncio.wait([self._saving])
        if self._kept != self._on_disk and (self._kept.swarms or self._on_disk.swarms):
            await self._save_once()


def _read(path: Path) -> Kept:
    try:
        found = json.loads(path.read_text())
        return Kept(str(found["resume_token"]), {str(key): float(at) for key, at in found["swarms"].items()})
    except FileNotFoundError:
        return Kept()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s): what happened at the engine meanwhile may never be heard of", path, error)
        return Kept()


def _try_to_write(path: Path, address: str, kept: Kept) -> OSError | None:
    try:
        if kept.swarms:
            write_whole(
                path, json.dumps({"address": address, "resume_token": kept.resume_token, "swarms": kept.swarms})
            )
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None
