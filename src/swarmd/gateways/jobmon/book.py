"""TaskBook: which attempt of which task Jobmon's server has, and what its answers mean for them. No I/O.

The server tells statuses without attempts, G both before a task is queued and after an attempt failed, and its answers
overtake each other. What makes them unambiguous:

- The status is asked for by one question at a time (a *sync*), so what a sync shows is never older than what the one
  before it showed. Syncs are numbered when they begin.
- Only this book's owner queues tasks. What was G or A and then is Q, I, O, R, D or F has been queued by its call.
- G and A mean that an attempt is over only in a sync that began after the answer to the call that queued it. In an
  earlier one they may be from before: they are ambiguous, and have to be asked for again.

What the server has and nobody here queued (a run that is resumed, a cancelled attempt that goes on) is *elsewhere*:
when the swarm queues such a task, the attempt that goes on is taken over in place of a call that would start another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

ACTIVE = "QIOR"
FINAL = "DF"
QUEUEABLE = "GA"
_TRANSIENT = "E"
_ENDED_AS = {"G": "E", "A": "A"}
"""What the status of a task whose attempt is over says of the attempt."""

Statuses = Mapping[str, Sequence[int]]
"""Ids of tasks by the letter of their status, as the server tells them."""


class Phase(Enum):
    """How sure it is that the server has an attempt."""

    CALLED = auto()
    """The call that queues it was begun; its answer is not there, or was lost."""
    QUEUED = auto()


@dataclass(slots=True)
class Entry:
    """One attempt that the server has, or may have."""

    attempt: int
    phase: Phase
    fresh: int = 0
    """The first sync whose G or A is about this attempt."""
    status: str = ""
    """What the server said last; empty: nothing yet."""


@dataclass(slots=True)
class News:
    """Attempts by what is to be reported of them."""

    by_status: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Task ids with their attempts."""

    def add(self, status: str, task_id: int, attempt: int) -> None:
        self.by_status.setdefault(status, []).append((task_id, attempt))

    def __bool__(self) -> bool:
        return bool(self.by_status)


@dataclass(frozen=True, slots=True)
class Division:
    """The tasks of a batch, by what is to be done with them."""

    to_queue: list[int]
    taken_over: list[int]
    """The server has them already."""
    unknown: list[int]
    """The server does not know them."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the answer to a call says."""

    news: News
    not_queued: dict[str, list[int]]
    """The tasks that were not queued, by the status that the server says they have; "" for those that it left out."""


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync says."""

    news: News
    ambiguous: bool
    """Some of it may be older than it seems: the next sync has to cover the same time again."""
    revived: list[int]
    """Tasks that were cancelled and that the server has all the same."""
    running: frozenset[int] = frozenset()
    """Those of them that run."""


@dataclass(frozen=True, slots=True)
class FoundCall:
    """What became of a call whose answer was lost."""

    carried_out: bool
    not_queued: list[int]
    """Of a call that was carried out: the tasks that it did not queue, or whose attempt is over already."""


class TaskBook:
    """The attempts of one swarm that the server has."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.syncs = 0
        """How many have begun."""
        self._elsewhere: set[int] = set()
        self._cancelled: set[int] = set()
        self._settled: dict[int, int] = {}
        """Cancelled tasks, with the first sync that shows them as they are since."""
        self._left_out: set[int] = set()
        self._unknown: set[int] = set()

    def has_active(self) -> bool:
        """Whether the server has, or may have, anything of the swarm."""
        return bool(self.entries)

    def to_end(self) -> list[int]:
        """The tasks that the server may have of the swarm, cancelled ones among them."""
        return sorted(self.entries.keys() | self._cancelled)

    def calls(self) -> int:
        """Of how many attempts it is not known yet whether the server has them."""
        return sum(entry.phase is Phase.CALLED for entry in self.entries.values())

    # -- queueing --------------------------------------------------------------------------------------------------

    def begin_call(self, task_ids: Sequence[int], attempts: Sequence[int]) -> Division:
        """These attempts are to be queued: which of them by a call. Those are called from now on."""
        division = Division([], [], [])
        for task_id, attempt in zip(task_ids, attempts, strict=True):
            entry = self.entries.get(task_id)
            if entry is not None or task_id in self._elsewhere:
                self.entries[task_id] = Entry(attempt, Phase.QUEUED, entry.fresh if entry else 0)
                division.taken_over.append(task_id)
            elif task_id in self._unknown:
                division.unknown.append(task_id)
            else:
                self.entries[task_id] = Entry(attempt, Phase.CALLED)
                division.to_queue.append(task_id)
        self._elsewhere.difference_update(division.taken_over)
        self._cancelled.difference_update(task_ids)
        return division

    def not_called(self, task_ids: Iterable[int]) -> None:
        """The call was not carried out, and will not be."""
        for task_id in task_ids:
            entry = self.entries.get(task_id)
            if entry is not None and entry.phase is Phase.CALLED:
                del self.entries[task_id]

    def answered(self, task_ids: Sequence[int], statuses: Statuses) -> Answered:
        """The call for these tasks was answered."""
        told = _told(task_ids, statuses)
        result = Answered(News(), {})
        for task_id in task_ids:
            entry, status = self.entries.get(task_id), told.get(task_id, "")
            if entry is None or entry.phase is Phase.QUEUED:
                continue  # a sync was quicker: what it said is newer
            if status and status in ACTIVE:
                entry.phase, entry.fresh, entry.status = Phase.QUEUED, self.syncs + 1, status
                if status != "Q":
                    result.news.add(status, task_id, entry.attempt)
            elif status and status in FINAL:
                result.news.add(status, task_id, entry.attempt)
                del self.entries[task_id]
            else:
                result.not_queued.setdefault(status, []).append(task_id)
                del self.entries[task_id]
        self._left_out.update(result.not_queued.get("", ()))
        return result

    # -- calls whose answer was lost -------------------------------------------------------------------------------

    def doubt(self, task_ids: Sequence[int], attempts: Sequence[int]) -> None:
        """An earlier owner may have called for these attempts."""
        for task_id, attempt in zip(task_ids, attempts, strict=True):
            entry = self.entries.get(task_id)
            if (entry is None or entry.attempt < attempt) and task_id not in self._cancelled:
                self.entries[task_id] = Entry(attempt, Phase.CALLED)
                self._elsewhere.discard(task_id)

    def found(self, task_ids: Sequence[int], statuses: Statuses, *, is_over: bool) -> FoundCall:
        """What all statuses say of a call; they are those of the sync that `synced` was just told.

        One task that went on is enough: the server carries a call out as a whole. Otherwise it was not carried out, and
        when `is_over` it will not be; its tasks are called no more then.
        """
        told = _told(task_ids, statuses)
        went_on = ACTIVE + FINAL + _TRANSIENT
        carried_out = any(status in went_on for status in told.values())
        not_queued = []
        for task_id in task_ids if carried_out or is_over else ():
            entry = self.entries.get(task_id)
            if entry is None or entry.phase is Phase.QUEUED:
                continue
            if carried_out and told.get(task_id) == _TRANSIENT:
                entry.phase, entry.fresh = Phase.QUEUED, self.syncs + 1
            else:
                not_queued.append(task_id)
                del self.entries[task_id]
        return FoundCall(carried_out, not_queued)

    # -- what others did -------------------------------------------------------------------------------------------

    def resume(self, task_ids: Sequence[int], attempts: Sequence[int]) -> None:
        """The server took these attempts from an earlier owner."""
        for task_id, attempt in zip(task_ids, attempts, strict=True):
            entry = self.entries.get(task_id)
            if entry is None or entry.attempt < attempt:
                self.entries[task_id] = Entry(attempt, Phase.QUEUED, self.syncs + 1)
                self._elsewhere.discard(task_id)

    def cancel(self, task_ids: Sequence[int], attempts: Sequence[int]) -> None:
        """These attempts are to end; nothing is reported of them any more."""
        for task_id, attempt in zip(task_ids, attempts, strict=True):
            entry = self.entries.get(task_id)
            if entry is None or entry.attempt <= attempt:
                self.entries.pop(task_id, None)
                self._cancelled.add(task_id)
                if entry is not None:
                    self._elsewhere.add(task_id)

    def taken_back(self, task_ids: Iterable[int]) -> None:
        """The server has ended them: they are in G, whatever a sync that goes on may still say."""
        for task_id in task_ids:
            if task_id in self._cancelled:
                self._elsewhere.discard(task_id)
                self._settled[task_id] = self.syncs + 1

    # -- syncs -----------------------------------------------------------------------------------------------------

    def begin_sync(self) -> int:
        """A sync begins; the one before it is over. Gives its number."""
        self.syncs += 1
        return self.syncs

    def synced(self, number: int, statuses: Statuses, *, is_full: bool) -> Synced:
        """The answer to a sync."""
        news, ambiguous, revived, running = News(), False, list[int](), list[int]()
        for status, ids in statuses.items():
            known = self.entries.keys() & ids
            if status in ACTIVE:
                self._active(number, status, known, news)
                others = self._others_active(number, set(ids) - self.entries.keys())
                revived += others
                running += others if status == "R" else ()
            elif status in FINAL:
                for task_id in known:
                    news.add(status, task_id, self.entries.pop(task_id).attempt)
                self._ended_elsewhere(ids)
            elif status in QUEUEABLE:
                ambiguous |= self._over(number, status, known, news)
                self._ended_elsewhere(ids)
            elif status == _TRANSIENT:
                for task_id in known:
                    self.entries[task_id].status = status
                self._elsewhere.update(set(ids) - self.entries.keys())
        self._settled = {task_id: fresh for task_id, fresh in self._settled.items() if fresh > number}
        if is_full:
            self._look_for_unknown(statuses)
        return Synced(news, ambiguous, revived, frozenset(running))

    def _active(self, number: int, status: str, known: Iterable[int], news: News) -> None:
        for task_id in known:
            entry = self.entries[task_id]
            if entry.phase is Phase.CALLED:
                entry.phase, entry.fresh = Phase.QUEUED, number + 1
            if entry.status != status:
                entry.status = status
                news.add(status, task_id, entry.attempt)

    def _others_active(self, number: int, others: set[int]) -> list[int]:
        """Remember what the server has besides. Gives those that were cancelled."""
        if self._settled:
            others = {task_id for task_id in others if self._settled.get(task_id, 0) <= number}
        self._elsewhere |= others
        return sorted(others & self._cancelled)

    def _ended_elsewhere(self, task_ids: Sequence[int]) -> None:
        if self._elsewhere:  # there may be a million of them
            self._elsewhere.difference_update(task_ids)

    def _over(self, number: int, status: str, known: Iterable[int], news: News) -> bool:
        """Attempts that may be over. Gives whether it cannot be said of some."""
        ambiguous = False
        for task_id in known:
            entry = self.entries[task_id]
            if entry.phase is Phase.CALLED or number < entry.fresh:
                ambiguous = True
            else:
                news.add(_ENDED_AS[status], task_id, entry.attempt)
                del self.entries[task_id]
        return ambiguous

    def _look_for_unknown(self, statuses: Statuses) -> None:
        """Whether the server knows the tasks that it left out of an answer."""
        if self._left_out:
            self._unknown |= self._left_out.difference(*statuses.values()) if statuses else self._left_out
            self._left_out.clear()


def _told(task_ids: Iterable[int], statuses: Statuses) -> dict[int, str]:
    """The statuses of these tasks, as far as they are told."""
    wanted = set(task_ids)
    return {task_id: status for status, ids in statuses.items() for task_id in wanted.intersection(ids)}
