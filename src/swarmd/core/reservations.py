"""Batches between lanes and engine: who took which tasks, and what is not known of them yet.

Used by `SwarmState`. A reservation can be made in two ways: by asking what goes next, or by naming the tasks, as a
journal does that tells again what was taken; both leave the same state behind.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from swarmd.core.batch import Batch
from swarmd.core.errors import DamagedError
from swarmd.core.history import History
from swarmd.core.ids import ABSENT, Int64s, Rows
from swarmd.core.status import Code, TaskStatus
from swarmd.core.table import Int32s, Table, Times

# Bound once: this Python looks a member of an enum up anew each time.
_REGISTERED, _RESERVED, _QUEUED = Code.REGISTERED, Code.RESERVED, Code.QUEUED

_ONE = np.int32(1)

SWEPT_PER_BATCH = 2
"""How many of the batches that were handed out are looked at when another one is: so they never pile up."""


@dataclass(slots=True, eq=False)
class OpenBatch:
    """A batch whose outcome is not there yet, or one that was handed out."""

    batch: Batch
    taken_at: float
    in_doubt: bool = False
    doubt: str = ""
    """Why it is in doubt."""
    request_id: str = ""
    """That of the tick which took it."""
    queued_before: Times | None = field(default=None, repr=False)
    """When its tasks had been queued before, for `undo`."""
    turn_before: int = 0
    """When its array had had its turn before, likewise."""


class _Picked(NamedTuple):
    """What the next batch is to be."""

    batch_id: str
    lane: int
    array_row: int
    size: int
    turn_before: int


class Reservations:
    """The batches of one swarm."""

    def __init__(self, table: Table, history: History, swarm_id: str) -> None:
        self._table = table
        self._history = history
        self._swarm_id = swarm_id
        self.open: dict[str, OpenBatch] = {}
        self.handed_out: dict[str, OpenBatch] = {}
        """Batches that whoever ticked was given to run, oldest first; some may have had news of every task."""
        self.count = 0
        """How many batches there ever were."""

    # -- reserving -------------------------------------------------------------------------------------------------

    def take(self, most: int, size: int, room: int, prefix: str, request_id: str, at: float) -> list[Batch]:
        """Reserve the batches that go next: up to `most` of up to `size` tasks, and up to `room` tasks in all.

        Fewer when no array has both work and room any more. As if they were taken one by one; the columns are gone
        through once for all of them.
        """
        queue, usage = self._table.queue, self._table.usage
        rows, seqs = array("i"), array("q")
        picked: list[_Picked] = []
        while len(picked) < most and room > 0:
            lane = queue.next_lane()
            if lane is None:
                break
            array_room = usage.room(lane.array_row)
            wanted = min(size, room, queue.share(room, usage.swarm_limit), array_room, lane.live)
            queue.take(lane, wanted, rows, seqs)
            room -= wanted
            picked.append(self._picked(prefix, lane.row, lane.array_row, wanted, has_room=array_room > wanted))
        if not picked:
            return []
        columns = np.frombuffer(rows, dtype=np.int32), np.frombuffer(seqs, dtype=np.int64)
        return self._reserve(picked, *columns, request_id, at)

    def take_named(self, batch_id: str, task_ids: Int64s, attempts: Int32s, request_id: str, at: float) -> Batch:
        """Reserve just these tasks, as a journal says it was done. Raises DamagedError when that cannot have been."""
        table = self._table
        rows = table.ids.find(task_ids)
        known = len(rows) > 0 and int(rows.min()) != ABSENT
        if not known or not bool(np.all(table.queue.ready_seq[rows] != 0)):
            raise DamagedError(f"batch {batch_id} has tasks that were not ready when it was taken")
        if not np.array_equal(table.attempt[rows] + 1, attempts):
            raise DamagedError(f"batch {batch_id} has other attempts than those that came next")
        seqs = table.queue.ready_seq[rows]
        table.queue.remove(rows, table.lanes)
        lane = int(table.lanes.of_task[rows[0]])
        array_row = int(table.lanes.array_row[lane])
        has_room = table.usage.room(array_row) > len(rows)
        picked = self._picked("", lane, array_row, len(rows), has_room=has_room)._replace(batch_id=batch_id)
        return self._reserve([picked], rows, seqs, request_id, at)[0]

    def taken_or_named(
        self,
        batch_ids: Sequence[str],
        sizes: Sequence[int],
        task_ids: Int64s,
        attempts: Int32s,
        request_id: str,
        at: float,
    ) -> list[Batch]:
        """These batches, which are open already or are reserved now, as `take_named` does it."""
        if sum(sizes) != len(task_ids) or len(attempts) != len(task_ids) or len(sizes) != len(set(batch_ids)):
            raise DamagedError("batches that were handed out do not fit their tasks")
        found: list[Batch] = []
        end = 0
        for batch_id, size in zip(batch_ids, sizes, strict=True):
            start, end = end, end + size
            known = self.open.get(batch_id)
            if known is None:
                found.append(self.take_named(batch_id, task_ids[start:end], attempts[start:end], request_id, at))
            else:
                found.append(known.batch)
        return found

    def _picked(self, prefix: str, lane: int, array_row: int, size: int, *, has_room: bool) -> "_Picked":
        """So many tasks of this lane are the next batch. Counts and turns follow at once: they say what comes then."""
        queue = self._table.queue
        self._table.usage.move_same(array_row, _REGISTERED, _RESERVED, size)
        self.count += 1
        turn_before = queue.take_turn(array_row, self.count)
        queue.refresh(array_row, has_room=has_room)
        return _Picked(f"{prefix}-{self.count}", lane, array_row, size, turn_before)

    def _reserve(
        self, picked: "Sequence[_Picked]", rows: Rows, seqs: Int64s, request_id: str, at: float
    ) -> list[Batch]:
        """The tasks of these batches, one after the other, are theirs."""
        table, lanes = self._table, self._table.lanes
        places = rows.astype(np.intp)  # what columns are read by: numpy would make it of the rows each time
        before = table.queued_at[places]
        attempts = table.attempt[places] + _ONE
        task_ids = table.task_id[places]
        table.queue.ready_seq[places] = 0
        table.status[places] = _RESERVED
        table.attempt[places] = attempts
        table.queued_at[places] = at
        batches: list[Batch] = []
        end = 0
        for batch_id, lane, array_row, size, turn_before in picked:
            start, end = end, end + size
            batch = Batch(
                self._swarm_id,
                batch_id,
                table.arrays[array_row],
                table.resources[int(lanes.resources_row[lane])],
                int(lanes.priority[lane]),
                task_ids[start:end],
                attempts[start:end],
                rows[start:end],
                seqs[start:end],
                table,
            )
            self.open[batch_id] = OpenBatch(batch, at, False, "", request_id, before[start:end], turn_before)
            batches.append(batch)
        return batches

    def undo(self, batch: Batch) -> None:
        """As if it had never been taken. Only while nothing else has happened to the swarm since."""
        known = self.open.pop(batch.batch_id)
        self.count -= 1
        table, rows = self._table, batch.rows
        table.queue.undo_turn(int(table.array_rows(rows[:1])[0]), known.turn_before)
        self._put_back(rows, batch.seqs)
        table.attempt[rows] -= 1
        if known.queued_before is not None:
            table.queued_at[rows] = known.queued_before

    # -- what becomes of them --------------------------------------------------------------------------------------

    def settle(self, batch: Batch) -> None:
        """Its outcome is known."""
        self.open.pop(batch.batch_id, None)

    def note_handed_out(self, batches: Sequence[Batch]) -> None:
        """Their outcome is that whoever ticked has them; news says that they are QUEUED."""
        self._sweep(SWEPT_PER_BATCH * len(batches))
        for batch in batches:
            known = self.open.pop(batch.batch_id, None)
            if known is not None:
                self.handed_out[batch.batch_id] = OpenBatch(batch, known.taken_at, False, "", known.request_id)

    def hand_out(self, batches: Sequence[Batch], at: float) -> None:
        """The same for batches of which nothing was heard yet. It makes their tasks QUEUED; no room, no lane changes.

        Raises DamagedError when something was heard.
        """
        table = self._table
        places = np.concatenate([batch.rows for batch in batches]).astype(np.intp)
        if not (table.status[places] == _RESERVED).all():
            raise DamagedError(f"batch {batches[0].batch_id} or one after it was handed out after news of its tasks")
        table.status[places] = _QUEUED
        table.changed_at[places] = at
        for batch in batches:
            array_row = int(table.lanes.array_row[table.lanes.of_task[batch.rows[0]]])
            table.usage.move_same(array_row, _RESERVED, _QUEUED, len(batch))
        self.note_handed_out(batches)

    def _sweep(self, most: int) -> None:
        """Forget those of the oldest that were handed out of whose tasks all have had news."""
        table = self._table
        for batch in [each.batch for each in islice(self.handed_out.values(), most)]:
            first = batch.rows.item(0)
            waits = table.status.item(first) == _QUEUED and table.attempt.item(first) == batch.attempts.item(0)
            if not waits and not len(self.without_news(batch)):
                del self.handed_out[batch.batch_id]

    def doubt(self, batch: Batch, why: str) -> None:
        """Nobody knows its outcome."""
        self.open[batch.batch_id] = replace(self.open[batch.batch_id], in_doubt=True, doubt=why)

    def give_back(self, batch: Batch, task_ids: Sequence[int] | None) -> int:
        """These tasks of it, or all, are ready again where they were before, unless news has reached them."""
        if task_ids is None:
            self.open.pop(batch.batch_id, None)
        places = self.still_reserved(batch)
        if task_ids is not None:
            places = places[np.isin(batch.task_ids[places], np.asarray(task_ids, dtype=np.int64))]
        self._put_back(batch.rows[places], batch.seqs[places])
        return len(places)

    def _put_back(self, rows: Rows, seqs: Int64s) -> None:
        table = self._table
        if not len(rows):
            return
        array_rows = table.array_rows(rows)
        table.usage.move_same(int(array_rows[0]), Code.RESERVED, Code.REGISTERED, len(rows))
        table.status[rows] = Code.REGISTERED
        waits = table.upstreams_left[rows] > 0  # an upstream was reset meanwhile
        if not waits.all():
            table.queue.restore(rows[~waits], seqs[~waits], table.lanes)
        table.refresh(array_rows[:1])

    def drop_settled_doubts(self) -> None:
        """A batch in doubt of which news has reached every task is in doubt no more."""
        if not self.open:
            return
        for batch_id, known in list(self.open.items()):
            if known.in_doubt and not len(self.still_reserved(known.batch)):
                del self.open[batch_id]

    # -- looking ---------------------------------------------------------------------------------------------------

    def still_reserved(self, batch: Batch) -> Rows:
        """The places of those of its tasks that no news has reached."""
        return self._still(batch, _RESERVED)

    def without_news(self, batch: Batch) -> Rows:
        """Of a batch that was handed out: the places of those of its tasks that nobody has reported anything of."""
        return self._still(batch, _QUEUED)

    def _still(self, batch: Batch, code: Code) -> Rows:
        same = self._table.status[batch.rows] == code
        return np.flatnonzero(same & (self._table.attempt[batch.rows] == batch.attempts)).astype(np.int32)

    def in_doubt_count(self, array_id: int | None = None) -> int:
        """Tasks whose batch is in doubt, of the swarm or of one array."""
        doubtful = [each.batch for each in self.open.values() if each.in_doubt]
        return sum(len(self.still_reserved(batch)) for batch in doubtful if array_id in (None, batch.array_id))

    def cancelled_in(self, batch: Batch) -> NDArray[np.intp]:
        """The places of those of its tasks that were cancelled since it was taken, also when they were reset since."""
        table = self._table
        same = table.attempt[batch.rows] == batch.attempts
        cancelled = same & (table.status[batch.rows] == Code.CANCELLED)
        elsewhere = np.flatnonzero(~cancelled & (~same | (table.status[batch.rows] == Code.REGISTERED)))
        for place in elsewhere.tolist():
            attempt = int(batch.attempts[place])
            cancelled[place] = self._history.has(int(batch.rows[place]), attempt, TaskStatus.CANCELLED)
        return np.flatnonzero(cancelled)


def at_engine(table: Table, swarm_id: str) -> list[Batch]:
    """The tasks that an engine has, queued or further: grouped as batches are, in groups of any size."""
    status = table.status[: table.size]
    return _grouped(table, swarm_id, (status >= Code.QUEUED) & (status <= Code.RUNNING))


def cancelled_at_engine(table: Table, swarm_id: str) -> list[Batch]:
    """The tasks that were cancelled after an engine had got them: it may not have heard of it."""
    cancelled = table.status[: table.size] == Code.CANCELLED
    return _grouped(table, swarm_id, cancelled & (table.queued_at[: table.size] > 0))


def _grouped(table: Table, swarm_id: str, wanted: NDArray[np.bool_]) -> list[Batch]:
    rows = np.flatnonzero(wanted).astype(np.int32)
    if not len(rows):
        return []
    lanes = table.lanes.of_task[rows]
    order = np.argsort(lanes, kind="stable")
    cuts = np.flatnonzero(np.diff(lanes[order])) + 1
    nowhere = np.zeros(len(rows), dtype=np.int64)
    return [batch_of(table, swarm_id, "", part, nowhere[: len(part)]) for part in np.split(rows[order], cuts)]


def batch_of(table: Table, swarm_id: str, batch_id: str, rows: Rows, seqs: Int64s) -> Batch:
    """A batch of these tasks, which share a lane, with the attempts that they have now."""
    lane = int(table.lanes.of_task[rows[0]])
    return Batch(
        swarm_id=swarm_id,
        batch_id=batch_id,
        array=table.arrays[int(table.lanes.array_row[lane])],
        task_resources=table.resources[int(table.lanes.resources_row[lane])],
        priority=int(table.lanes.priority[lane]),
        task_ids=table.task_id[rows],
        attempts=table.attempt[rows],
        rows=rows,
        seqs=seqs,
        table=table,
    )
