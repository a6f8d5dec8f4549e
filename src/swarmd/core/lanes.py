"""Where ready tasks wait: first-in-first-out lanes, one for each (priority, array, resources, class of path).

A tick asks `next_lane` for the lane whose array has room, of the highest priority, and within it of the longest class
of paths (all are of one class unless the policy is "longest path first"), whose head has waited longest. Under fair
shares it is a lane of the array with the fewest active tasks instead, and of those whose last turn is longest ago. The
answer costs O(log lanes): each array keeps a heap of its lanes, one heap keeps the arrays that have room, and an array
without room is in neither's way. Entries of heaps and lanes that no longer hold are skipped when they come up, never
searched for.

Every entry of a lane carries the sequence number that its task got when it became ready. The task's own `ready_seq`
column says which entry is the living one (0: none), so a task leaves its lane by a change of that one number.
"""

from array import array
from collections.abc import Callable, Iterator

import numpy as np

from swarmd.core.ids import Int64s, Rows
from swarmd.core.key_heap import Key, KeyHeap
from swarmd.core.lane import ArrayQueue, Lane
from swarmd.core.lane_table import ROW_BYTES, LaneTable, SortedByLane, by_lane, cut
from swarmd.core.paths import HIGHEST_CLASS

_CLASSES = 2 * (HIGHEST_CLASS + 1)
_FAIR_BATCHES = 32
"""Under fair shares no batch need be smaller than this part of the swarm's limit."""

_SCATTERED_UP_TO = 4096


class ReadyQueue:
    """All lanes of a swarm. Told which arrays have room; answers which lane is next."""

    def __init__(self, active_of: Callable[[int], int] | None = None) -> None:
        """`active_of` is given for fair shares: how many tasks of an array are active."""
        self.ready_seq: Int64s = np.zeros(0, dtype=np.int64)
        """By task row: the number of its living entry; 0 when it is in no lane. Grown by the task table."""
        self.live = 0
        self._lanes: dict[int, Lane] = {}
        self._arrays: dict[int, ArrayQueue] = {}
        self._open = KeyHeap()
        self._open_count = 0
        self._next_back = 1
        self._next_front = -1
        self._active_of = active_of
        self.turns: dict[int, int] = {}
        """Under fair shares, by array row: the number of the batch that was its last."""

    @property
    def counts_active(self) -> bool:
        """Whether an array's place depends on how many of its tasks are active: it is to hear of every change then."""
        return self._active_of is not None

    @property
    def has_open_array(self) -> bool:
        """Whether any array has both a ready task and room."""
        return self._open_count > 0

    def push_back(self, rows: Rows, lanes: LaneTable) -> Rows:
        """Let tasks wait, behind all others, in the order given. Returns the arrays that are to be refreshed.

        A lane that had tasks keeps its place among the others, so only lanes that were empty cost more than an append.
        """
        seqs = np.arange(self._next_back, self._next_back + len(rows), dtype=np.int64)
        self._next_back += len(rows)
        self.ready_seq[rows] = seqs
        self.live += len(rows)
        lane_rows = lanes.of_task[rows]
        if len(rows) <= _SCATTERED_UP_TO and np.count_nonzero(lane_rows[1:] != lane_rows[:-1]) * 4 >= len(rows) - 1:
            return self._push_scattered(rows, seqs, lane_rows, lanes)
        return self._push_groups(by_lane(lane_rows, rows, seqs), lanes)

    def push_sorted(self, ready: SortedByLane, first_row: int, lane_rows: Rows, lanes: LaneTable) -> Rows:
        """The same for tasks that were sorted by lane beforehand; `lane_rows` says which lane each number means."""
        rows = ready.places + np.int32(first_row)
        seqs = ready.ranks + self._next_back
        self._next_back += len(rows)
        self.ready_seq[rows] = seqs
        self.live += len(rows)
        numbers = lane_rows[ready.lanes].tolist()
        return self._push_groups(cut(numbers, ready.cuts, rows, seqs), lanes)

    def _push_groups(self, groups: Iterator[tuple[int, memoryview, memoryview]], lanes: LaneTable) -> Rows:
        touched: list[int] = []
        for lane_row, part_rows, part_seqs in groups:
            lane = self._lanes.get(lane_row) or self._new_lane(lane_row, lanes)
            lane.rows.frombytes(part_rows)
            lane.seqs.frombytes(part_seqs)
            count = len(part_rows) // ROW_BYTES
            was_empty = not lane.live
            lane.live += count
            if was_empty:
                self._relist(lane, count)
                touched.append(lane.array_row)
            else:
                lane.owner.live += count
        return np.array(touched, dtype=np.int32)

    def _push_scattered(self, rows: Rows, seqs: Int64s, lane_rows: Rows, lanes: LaneTable) -> Rows:
        """The same one by one: faster where nearly every task goes to a lane of its own."""
        touched: list[int] = []
        for lane_row, row, seq in zip(lane_rows.tolist(), rows.tolist(), seqs.tolist(), strict=True):
            lane = self._lanes.get(lane_row) or self._new_lane(lane_row, lanes)
            lane.rows.append(row)
            lane.seqs.append(seq)
            lane.live += 1
            if lane.live == 1:
                self._relist(lane, 1)
                touched.append(lane.array_row)
            else:
                lane.owner.live += 1
        return np.array(touched, dtype=np.int32)

    def push_front(self, rows: Rows, lanes: LaneTable) -> Rows:
        """Let tasks wait before all others of their lanes, in the order given. Returns the arrays to be refreshed."""
        seqs = np.arange(self._next_front - len(rows) + 1, self._next_front + 1, dtype=np.int64)
        self._next_front -= len(rows)
        return self.restore(rows, seqs, lanes)

    def restore(self, rows: Rows, seqs: Int64s, lanes: LaneTable) -> Rows:
        """Put tasks that `take` gave out back to where they were. Returns the arrays to be refreshed."""
        self.ready_seq[rows] = seqs
        self.live += len(rows)
        lane_rows = lanes.of_task[rows]
        for lane_row, part_rows, part_seqs in by_lane(lane_rows, rows, seqs):
            lane = self._lanes.get(lane_row) or self._new_lane(lane_row, lanes)
            lane.insert(np.frombuffer(part_rows, dtype=np.int32), np.frombuffer(part_seqs, dtype=np.int64))
            self._relist(lane, len(part_rows) // ROW_BYTES)
        return lanes.array_row[lane_rows]

    @property
    def counters(self) -> tuple[int, int]:
        """The numbers that come next at the back and at the front."""
        return self._next_back, self._next_front

    def refill(self, ready_seq: Int64s, counters: tuple[int, int], lanes: LaneTable) -> Rows:
        """Let tasks wait, by the numbers they had, in a queue that is empty. Returns the arrays to be refreshed."""
        self.ready_seq = ready_seq
        self._next_back, self._next_front = counters
        rows = np.flatnonzero(ready_seq).astype(np.int32)
        if not len(rows):
            return rows
        self.live = len(rows)
        seqs, lane_rows = ready_seq[rows], lanes.of_task[rows]
        order = np.lexsort((seqs, lane_rows))
        return self._push_groups(by_lane(lane_rows[order], rows[order], seqs[order]), lanes)

    def remove(self, rows: Rows, lanes: LaneTable) -> Rows:
        """Take ready tasks out of their lanes, wherever they stand. Returns the arrays to be refreshed."""
        lane_rows = lanes.of_task[rows]
        self.ready_seq[rows] = 0
        self.live -= len(rows)
        for lane_row, count in zip(*(each.tolist() for each in np.unique(lane_rows, return_counts=True)), strict=True):
            lane = self._lanes[lane_row]
            lane.forget(count, self.ready_seq)
            self._relist(lane, -count)
        return lanes.array_row[lane_rows]

    def _new_lane(self, row: int, lanes: LaneTable) -> Lane:
        array_row = int(lanes.array_row[row])
        owner = self._arrays.setdefault(array_row, ArrayQueue())
        lane = Lane(row, array_row, -int(lanes.priority[row]) * _CLASSES - int(lanes.path[row]), owner)
        self._lanes[row] = lane
        return lane

    def _relist(self, lane: Lane, change: int) -> None:
        """The lane has `change` more living entries: bring its place among the array's lanes up to date."""
        lane.owner.live += change
        key = lane.first_key(self.ready_seq) if lane.live else None
        if key != lane.key:
            lane.key = key
            if key is not None:
                lane.owner.lanes.push(key, self._lane_holds)

    def refresh(self, array_row: int, *, has_room: bool) -> None:
        """The lanes or the room of an array changed: bring its place among the arrays up to date."""
        owner = self._arrays.get(array_row)
        if owner is None:
            return
        key: Key | None = None
        if has_room and owner.live:
            best = owner.lanes.first(self._lane_holds)
            key = best and (best[0], *self._standing(best, array_row), array_row)
        if key != owner.key:
            self._open_count += (key is not None) - (owner.key is not None)
            owner.key = key
            if key is not None:
                self._open.push(key, self._array_holds)

    def _standing(self, best: Key, array_row: int) -> tuple[int, ...]:
        """What says which of the arrays whose best lanes have the same rank goes first."""
        if self._active_of is None:
            return (best[1],)
        return self._active_of(array_row), self.turns.get(array_row, 0)

    def take_turn(self, array_row: int, batch: int) -> int:
        """The array has its turn with the batch of this number. Returns when it had its last, for `undo_turn`."""
        if self._active_of is None:
            return 0
        last = self.turns.get(array_row, 0)
        self.turns[array_row] = batch
        return last

    def undo_turn(self, array_row: int, last: int) -> None:
        """As if it had not had it."""
        if last:
            self.turns[array_row] = last
        else:
            self.turns.pop(array_row, None)

    def share(self, room: int, limit: int) -> int:
        """How many tasks the array that goes next may be given at once, of a swarm with this room and limit.

        Under fair shares all arrays that could go are to have the same, but in no more batches than need be.
        """
        if self._active_of is None:
            return room
        return max(1, -(-room // max(1, self._open_count)), -(-limit // _FAIR_BATCHES))

    def _lane_holds(self, key: Key) -> bool:
        return self._lanes[key[2]].key == key

    def _array_holds(self, key: Key) -> bool:
        return self._arrays[key[-1]].key == key

    def _best_lane(self, owner: ArrayQueue) -> Lane | None:
        key = owner.lanes.first(self._lane_holds)
        return self._lanes[key[2]] if key else None

    def next_lane(self) -> Lane | None:
        """The lane that goes next, or None when no array with room has a ready task."""
        key = self._open.first(self._array_holds)
        return self._best_lane(self._arrays[key[-1]]) if key else None

    def take(self, lane: Lane, wanted: int, rows: "array[int]", seqs: "array[int]") -> None:
        """Move the first tasks of a lane to the end of `rows`, and the numbers that `restore` needs to that of `seqs`.

        Refresh the array after it, and set the `ready_seq` of the tasks to 0 before anything is asked of the queue but
        what is next.
        """
        lane.take(wanted, self.ready_seq, rows, seqs)
        self.live -= wanted
        self._relist(lane, -wanted)

    def position(self, row: int, lane_row: int) -> int:
        """How many living entries of its lane are before this task's."""
        return self._lanes[lane_row].position(int(self.ready_seq[row]), self.ready_seq)

    def waiting_in(self, lane_row: int) -> int:
        """How many living entries a lane has."""
        lane = self._lanes.get(lane_row)
        return lane.live if lane else 0

    def live_of(self, array_row: int) -> int:
        """How many tasks of an array are ready."""
        owner = self._arrays.get(array_row)
        return owner.live if owner else 0

    def open_arrays(self) -> set[int]:
        """The arrays that have both a ready task and room, for checks."""
        return {row for row, owner in self._arrays.items() if owner.key is not None}

    def entries(self) -> dict[int, list[int]]:
        """The living entries of every lane, for checks: lane row to task rows in order."""
        found = {}
        for row, lane in self._lanes.items():
            pairs = zip(lane.rows[lane.head :], lane.seqs[lane.head :], strict=True)
            found[row] = [task for task, seq in pairs if int(self.ready_seq[task]) == seq]
        return found

    def waiting(self) -> tuple[Rows, Int64s]:
        """The same as columns, for checks: the task rows and the numbers of all lanes, by ascending lane rows."""
        rows, seqs = array("i"), array("q")
        for _, lane in sorted(self._lanes.items()):
            rows.extend(lane.rows[lane.head :])
            seqs.extend(lane.seqs[lane.head :])
        all_rows, all_seqs = np.array(rows, dtype=np.int32), np.array(seqs, dtype=np.int64)
        alive = self.ready_seq[all_rows] == all_seqs
        return all_rows[alive], all_seqs[alive]
