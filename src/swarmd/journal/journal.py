"""SwarmJournal: writes the events of one swarm down, in groups, and has each applied once it is on disk.

Its users are in the event loop; the disk is in threads. While one group is being committed the next one gathers, so a
thousand who wait share a commit. Events are applied in the order in which they were written, and nothing else ever
changes the swarm, but for reservations: batches are taken from the swarm as it is when everything that was written has
been applied, and their events are the first of the group that comes next. So whoever applies the events again later
comes by the same swarm.
"""

import asyncio
import contextlib
import contextvars
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from swarmd.core.errors import StorageError
from swarmd.core.events import Event
from swarmd.core.freezing import Frozen, Room, begin_freezing, make_room
from swarmd.core.swarm import Swarm
from swarmd.journal.encoding import encode
from swarmd.journal.faults import reach
from swarmd.journal.segment import Record, Segment
from swarmd.journal.store import SwarmStore
from swarmd.observing.observer import UNOBSERVED, Observer
from swarmd.observing.subject import SWARM

log = logging.getLogger(__name__)

T = TypeVar("T")


PROBE_SECONDS = 0.5
"""How often it is tried whether a disk that was full has room again."""
REST_SECONDS = 30.0
"""After so long without an event the files are closed until there is one."""
LARGEST_GROUP_BYTES = 16 * 1024 * 1024
SNAPSHOT_AFTER_BYTES = 32 * 1024 * 1024
SNAPSHOT_AFTER_EVENTS = 100_000
SNAPSHOT_AFTER_SECONDS = 2.0
"""What may be written since the last snapshot before there is another, in bytes and in the time that it took to apply:
a restart takes as long again. Of the whole time no more than a fifth goes into snapshots."""
SMALLEST_GROUP = 8
GROUP_SECONDS = 0.03
"""About how long it may take to apply what is written in one commit."""
APPLY_SLICE_SECONDS = 0.005


@dataclass(slots=True, eq=False)
class _Entry:
    """An event on its way."""

    at: float
    data: bytes
    apply: Callable[[], Any]
    undo: Callable[[], None] | None
    must: bool
    done: "asyncio.Future[Any]"

    def fail(self, error: BaseException) -> None:
        if self.undo is not None:
            self.undo()
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # nobody may be waiting


@dataclass(slots=True, eq=False)
class _Reservation:
    """Somebody who wants to take batches."""

    take: Callable[[], Sequence[tuple[Event, Any]]]
    undo: Callable[[Any], None]
    at: float
    done: "asyncio.Future[list[Any]]"
    apply: Callable[[Event], object]


def _nothing(event: Event) -> None:
    del event


def _then(work: Callable[[], object], result: T) -> T:
    work()
    return result


class SwarmJournal:
    """The journal of one swarm, from `start` to `close`."""

    durable = True

    def __init__(
        self,
        store: SwarmStore,
        pool: ThreadPoolExecutor,
        seq: int,
        swarm: Swarm,
        changed: Callable[[], None],
        observer: Observer = UNOBSERVED,
    ) -> None:
        """Go on after event `seq`, with the swarm as it is then; `changed` hears of trouble and its end."""
        self.store = store
        self.trouble: StorageError | None = None
        self.in_trouble = asyncio.Event()
        self._pool = pool
        self._seq = seq
        self._swarm = swarm
        self._changed = changed
        self._observer = observer
        self._pending: list[_Entry] = []
        self._overtaking = 0
        """How many of the pending overtook the others."""
        self._reservations: list[_Reservation] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._running: asyncio.Task[None] | None = None
        self._bytes_since = 0
        self._events_since = 0
        self._seconds_since = 0.0
        self._seconds_an_event = 1e-4
        self._held = 0
        self._next_segment: Segment | None = None
        self._room: Room | None = None
        self._frozen: asyncio.Future[tuple[int, Frozen]] | None = None
        self._snapshot: asyncio.Task[None] | None = None
        self._snapshot_factor = 1
        self._snapshot_seconds = 0.0

    def start(self) -> None:
        """Begin to write."""
        name, own = f"journal {self.store.folder.name}", contextvars.Context()  # it is part of no call
        self._running = asyncio.create_task(self._run(), name=name, context=own)

    def count(self, size: int, seconds: float) -> None:
        self._bytes_since += size
        self._seconds_since += seconds

    # -- for those who write ---------------------------------------------------------------------------------------

    def append(
        self,
        event: Event,
        at: float,
        apply: Callable[[], T | Coroutine[Any, Any, T]],
        *,
        must: bool = False,
        first: bool = False,
        encoded: bytes | None = None,
    ) -> "asyncio.Future[T]":
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        entry = _Entry(at, encoded or encode(event), apply, None, must, done)
        if self._closing or (self.trouble is not None and not must):
            entry.fail(self._refusal())
        else:
            if first:
                self._pending.insert(self._overtaking, entry)
                self._overtaking += 1
            else:
                self._pending.append(entry)
            self._wake.set()
        return done

    def reserve(
        self,
        take: Callable[[], Sequence[tuple[Event, T]]],
        undo: Callable[[T], None],
        at: float,
        apply: Callable[[Event], object] | None = None,
    ) -> "asyncio.Future[list[T]]":
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if self._closing or self.trouble is not None:
            done.set_exception(self._refusal())
        else:
            self._reservations.append(_Reservation(take, undo, at, done, apply or _nothing))
            self._wake.set()
        return done

    def _refusal(self) -> StorageError:
        if self.trouble is None:
            message = "the journal is closed: the daemon stops, or the swarm is being deleted; nothing was changed"
            return StorageError(message, reason="JOURNAL_CLOSED")
        error = self.trouble
        return type(error)(error.message, reason=error.reason, metadata=error.metadata)

    @contextlib.contextmanager
    def without_snapshots(self) -> Iterator[None]:
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    async def close(self) -> None:
        """Write what waits, and close the files. What cannot be written is given up: nobody was told that it was."""
        self._closing = True
        self._wake.set()
        if self._running is not None:
            await asyncio.shield(self._running)  # whoever closes may give up; what waits is written all the same
        if self._snapshot is not None:
            if self._next_segment is not None:  # it waits for a moment that does not come any more
                self._snapshot.cancel()
                self._next_segment.close()
            await asyncio.wait([self._snapshot])
        await self._in_thread(self.store.rest)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        SWARM.set(self.store.folder.name)
        resting = False
        while True:
            if not (self._pending or self._reservations or self._may_switch):
                if self._closing:
                    return
                self._wake.clear()
                try:
                    async with asyncio.timeout(None if resting else REST_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    if self._snapshot is None:
                        await self._in_thread(self.store.rest)
                        resting = True
                continue
            resting = False
            await self._switch_when_ready()
            self._let_reserve()
            group = self._next_group()
            if group:
                await self._write(group)
                self._snapshot_when_due()  # not before: only now is the present file sure to be open

    def _let_reserve(self) -> None:
        """All that was written has been applied: batches may be taken now, and go first."""
        wanting, self._reservations = self._reservations, []
        front: list[_Entry] = []
        for each in wanting:
            try:
                taken = each.take()
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                each.done.set_exception(error)
                continue
            front += self._entries_of(each, taken)
        self._pending = front + self._pending

    def _entries_of(self, wanted: _Reservation, taken: Sequence[tuple[Event, Any]]) -> list[_Entry]:
        whole = [what for _, what in taken]
        if not taken:
            if not wanted.done.done():
                wanted.done.set_result(whole)
            return []
        loop = asyncio.get_running_loop()
        entries = [
            _Entry(
                wanted.at,
                encode(event),
                partial(wanted.apply, event),
                partial(wanted.undo, what),
                False,
                loop.create_future(),
            )
            for event, what in taken
        ]
        last = entries[-1]
        last.apply, last.done = partial(_then, last.apply, whole), wanted.done
        return entries

    def _next_group(self) -> list[_Entry]:
        """What is written next: not more than is applied in a moment, since whoever reserves waits for all of it."""
        size = self._overtaking = 0
        most = max(SMALLEST_GROUP, int(GROUP_SECONDS / self._seconds_an_event))
        for place, entry in enumerate(self._pending):
            size += len(entry.data)
            # What was reserved is written together: all of it, or nothing.
            if (size > LARGEST_GROUP_BYTES or place >= most) and place and entry.undo is None:
                group, self._pending = self._pending[:place], self._pending[place:]
                return group
        group, self._pending = self._pending, []
        return group

    async def _write(self, group: list[_Entry]) -> None:
        records = [Record(self._seq + place, entry.at, entry.data) for place, entry in enumerate(group, 1)]
        begun = time.perf_counter()
        try:
            await self._in_thread(self.store.append, records)
        except StorageError as error:
            await self._cannot_write(group, error)
            return
        except Exception as error:
            log.exception("the journal of swarm %s cannot be written to", self.store.folder.name)
            await self._cannot_write(group, StorageError(f"the journal cannot be written to: {error}"))
            return
        size = sum(len(record.event) for record in records)
        self._observer.committed(len(records), size, time.perf_counter() - begun)
        self._seq = records[-1].seq
        self._events_since += len(records)
        self._bytes_since += size
        await self._apply_all(group)
        reach("applied")

    async def _apply_all(self, group: list[_Entry]) -> None:
        """Apply what was written, with a turn for others every few milliseconds."""
        clock = asyncio.get_running_loop().time
        begun = slice_begun = clock()
        for entry in group:
            await self._apply(entry)
            if clock() - slice_begun > APPLY_SLICE_SECONDS:
                await asyncio.sleep(0)
                slice_begun = clock()
        took = clock() - begun
        self._seconds_since += took
        self._seconds_an_event += (took / len(group) - self._seconds_an_event) / 8

    async def _apply(self, entry: _Entry) -> None:
        try:
            result = entry.apply()
            if inspect.iscoroutine(result):
                result = await result
        except Exception as error:
            # It was checked before it was written, so this is a fault of ours; a restart would meet it again.
            log.exception("an event that was written down could not be applied")
            entry.undo = None  # what it reserved is taken, by what is on disk
            entry.fail(error)
            return
        if not entry.done.done():
            entry.done.set_result(result)

    # -- trouble ---------------------------------------------------------------------------------------------------

    async def _cannot_write(self, group: list[_Entry], error: StorageError) -> None:
        """Refuse what may be refused, keep what must be written, and try until it can be."""
        self.trouble = error
        self._observer.commit_failed()
        self.in_trouble.set()
        log.error("%s", error.message)
        for entry in reversed(group):
            if not entry.must:
                entry.fail(self._refusal())
        self._pending = [entry for entry in group if entry.must] + self._pending
        self._refuse_waiting()
        self._changed()
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._until_closing()
            try:
                await self._in_thread(self.store.probe, self._seq)
            except Exception as again:  # noqa: BLE001 - whatever it is, it is tried again
                log.debug("still not: %s", again)
                continue
            break
        else:
            log.error("%d events could not be written before the end", len(self._pending))
            for entry in self._pending:
                entry.fail(self._refusal())
            self._pending.clear()
        if self._closing:
            return
        self.trouble = None
        self.in_trouble.clear()
        log.info("events of swarm %s can be written down again", self.store.folder.name)
        self._changed()

    def _refuse_waiting(self) -> None:
        refused = [entry for entry in self._pending if not entry.must]
        self._pending = [entry for entry in self._pending if entry.must]
        for entry in reversed(refused):
            entry.fail(self._refusal())
        for each in self._reservations:
            each.done.set_exception(self._refusal())
        self._reservations.clear()

    async def _until_closing(self) -> None:
        while not self._closing:
            self._wake.clear()
            await self._wake.wait()

    # -- snapshots -------------------------------------------------------------------------------------------------

    def _snapshot_when_due(self) -> None:
        due = (
            self._bytes_since >= SNAPSHOT_AFTER_BYTES * self._snapshot_factor
            or self._events_since >= SNAPSHOT_AFTER_EVENTS * self._snapshot_factor
            or self._seconds_since >= max(SNAPSHOT_AFTER_SECONDS, 4 * self._snapshot_seconds) * self._snapshot_factor
        )
        if due and self._snapshot is None and not self._held and not self._closing:
            self._snapshot = asyncio.create_task(self._prepare(), name=f"snapshot {self.store.folder.name}")
            self._snapshot.add_done_callback(self._snapshot_over)

    async def _prepare(self) -> None:
        """Make the file for what comes after the snapshot, then wait for the moment between two groups."""
        segment = await asyncio.to_thread(self.store.prepare_segment)
        self._room = await asyncio.to_thread(make_room, self._swarm.state.task_count)
        if self._closing:
            segment.close()
            return
        self._next_segment, self._frozen = segment, asyncio.get_running_loop().create_future()
        self._wake.set()
        seq, frozen = await self._frozen
        self._frozen = None
        clock = asyncio.get_running_loop().time
        begun = clock()
        size = await asyncio.to_thread(self.store.keep_snapshot, seq, frozen)
        self._snapshot_seconds = clock() - begun
        self._observer.snapshot_made(self._snapshot_seconds)
        log.debug("snapshot of swarm %s: event %d, %d bytes", self.store.folder.name, seq, size)

    @property
    def _may_switch(self) -> bool:
        return self._next_segment is not None and not self._held

    async def _switch_when_ready(self) -> None:
        """Between two groups: the swarm is what all events so far made of it.

        It is copied in another thread, one of those in which nothing takes long. Until that is done nothing is applied
        and nobody may reserve, so nothing happens to it; others in the event loop have their turns, and may look at it.
        """
        if self._next_segment is None or not self._may_switch:
            return
        self.store.switch(self._next_segment)
        self._next_segment = None
        self._bytes_since, self._events_since, self._seconds_since = 0, 0, 0.0
        room, self._room = self._room, None
        if self._frozen is not None:
            try:
                frozen = await self._in_thread(begin_freezing(self._swarm, room))
                self._frozen.set_result((self._seq, frozen))
            except Exception as error:  # noqa: BLE001 - there is no snapshot then, and the journal goes on
                self._frozen.set_exception(error)
        reach("snapshot.switched")

    def _snapshot_over(self, task: "asyncio.Task[None]") -> None:
        self._snapshot = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._snapshot_factor = 1
            return
        self._snapshot_factor = min(64, self._snapshot_factor * 2)
        log.warning("no snapshot of swarm %s could be kept: %s", self.store.folder.name, error)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
