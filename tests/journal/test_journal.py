"""The journal of a living swarm: groups, their order, what is refused and undone, and snapshots beside all that."""

import asyncio
import contextlib
import random
import resource
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from swarmd.core.change import Change
from swarmd.core.comparing import differences
from swarmd.core.errors import StorageError
from swarmd.core.events import BatchTaken, Configured, Event, Loaded, LoadPart, TickAnswered
from swarmd.core.freezing import Frozen, Room, begin_freezing
from swarmd.core.swarm import Swarm
from swarmd.journal import journal as module
from swarmd.journal.contract import MemoryJournal
from swarmd.journal.journal import SwarmJournal
from swarmd.journal.segment import Record
from swarmd.journal.store import SwarmStore
from tests.core.test_freezing import CREATED, lived
from tests.journal.disks import fill, small_disk
from tests.journal.stores import after_a_crash


class WatchedStore(SwarmStore):
    """Remembers its commits, and fails when it is told to: what a disk does is the business of other tests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.commits: list[list[int]] = []
        self.failing = False
        self.slow = 0.0

    def append(self, records: Sequence[Record]) -> None:
        time.sleep(self.slow)
        if self.failing:
            raise StorageError("the disk fails; nothing was changed")
        super().append(records)
        self.commits.append([record.seq for record in records])

    def probe(self, seq: int) -> None:
        if self.failing:
            raise StorageError("the disk fails; nothing was changed")
        super().probe(seq)


class Living:
    """A swarm with its journal."""

    def __init__(self, folder: Path) -> None:
        SwarmStore.create(folder, CREATED, 1.5)
        self.store = WatchedStore(folder)
        self.swarm = Swarm(CREATED, 1.5)
        self.pool = ThreadPoolExecutor(2)
        self.told: list[bool] = []
        self.journal = SwarmJournal(self.store, self.pool, 1, self.swarm, self._changed)
        self.applied: list[Event] = []

    def _changed(self) -> None:
        self.told.append(self.journal.trouble is not None)

    def append(self, event: Event, at: float = 2.0, *, must: bool = False) -> "asyncio.Future[Change]":
        def apply() -> Change:
            self.applied.append(event)
            return self.swarm.apply(event, at)

        return self.journal.append(event, at, apply, must=must)

    async def live(self, told: Sequence[tuple[Event, float]]) -> None:
        """Let this happen, one after the other, loads being held together as a hosted swarm does."""
        waiting: list[asyncio.Future[Change]] = []
        for event, at in told:
            parts = isinstance(event, (LoadPart, Loaded))
            with self.journal.without_snapshots() if parts else contextlib.nullcontext():
                waiting.append(self.append(event, at))
                if len(waiting) == 5 or parts:
                    await asyncio.gather(*waiting)
                    waiting.clear()
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    def killed(self, copy: str) -> SwarmStore:
        return after_a_crash(self.store, self.store.folder.with_name(copy))

    def take(self, most: int = 3) -> "asyncio.Future[list[Any]]":
        """Reserve batches, as a tick does."""

        def reserve() -> list[tuple[Event, Any]]:
            taken: list[tuple[Event, Any]] = []
            while len(taken) < most and (batch := self.swarm.state.take_batch(1, at=3.0)) is not None:
                event = BatchTaken(batch.batch_id, batch.task_ids, batch.attempts)
                self.swarm.apply(event, 3.0)
                taken.append((event, batch))
            return taken

        return self.journal.reserve(reserve, self.swarm.untake, 3.0)


@pytest.fixture
async def living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Living]:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.02)
    made = Living(tmp_path / "s")
    made.journal.start()
    yield made
    made.store.failing = False
    await made.journal.close()
    recovered = made.store.recover()
    assert recovered.warnings == []
    assert differences(recovered.swarm, made.swarm) == []
    made.pool.shutdown()


def name(number: int) -> Configured:
    return Configured(display_name=f"name {number}")


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is seen on disk, which tells nobody
            await asyncio.sleep(0.005)


# -- groups and order --------------------------------------------------------------------------------------------------


async def test_a_thousand_who_wait_share_few_commits(living):
    changes = await asyncio.gather(*(living.append(name(number)) for number in range(1000)))
    assert len(living.store.commits) <= 20
    assert [change.revision for change in changes] == list(range(1, 1001))


async def test_events_are_applied_in_the_order_of_the_disk(living):
    async def caller(number: int) -> None:
        for step in range(20):
            await living.append(name(number * 100 + step))
            await asyncio.sleep(0)

    await asyncio.gather(*(caller(number) for number in range(20)))
    assert [seq for commit in living.store.commits for seq in commit] == list(range(2, 402))
    again: list[Change] = []
    living.killed("copy").recover(again.append)
    assert [change.revision for change in again] == list(range(1, 401))
    assert len(living.applied) == 400


async def test_nothing_is_applied_before_it_is_on_disk(living):
    living.store.slow = 0.05
    done = living.append(name(1))
    await asyncio.sleep(0.02)
    assert (living.applied, living.swarm.display_name) == ([], "a study")
    await done
    assert differences(living.killed("copy").recover().swarm, living.swarm) == []


async def test_a_group_is_bounded_by_its_bytes(living, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_GROUP_BYTES", 1000)
    await asyncio.gather(*(living.append(TickAnswered(f"t{n}", "", bytes(300))) for n in range(12)))
    assert max(len(commit) for commit in living.store.commits) <= 3
    await living.append(TickAnswered("large", "", bytes(5000)))


async def test_an_event_may_be_applied_in_steps_and_what_comes_next_waits(living):
    seen: list[str] = []

    async def slowly() -> str:
        seen.append("begun")
        await asyncio.sleep(0.02)
        seen.append("done")
        return "its result"

    event = TickAnswered("a", "", b"")
    first = living.journal.append(event, 2.0, slowly)
    second = living.journal.append(name(1), 2.0, lambda: seen.append("next"))
    assert await first == "its result"
    await second
    assert seen == ["begun", "done", "next"]
    living.swarm.apply(event, 2.0)
    living.swarm.apply(name(1), 2.0)


# -- reservations ------------------------------------------------------------------------------------------------------


async def test_reservations_see_all_that_was_applied_and_go_first(living):
    await living.live(lived([]).told)
    living.store.slow = 0.03
    living.append(Configured(paused=True))
    await asyncio.sleep(0.01)  # it is being written
    taking, after = living.take(), living.append(Configured(paused=False))
    assert await taking == [], "it was paused by then"
    await after
    living.append(name(1))
    await asyncio.sleep(0.01)
    pausing, taking = living.append(Configured(paused=True)), living.take()
    assert len(await taking) == 3, "it goes first, and is on disk with what pauses it"
    await pausing
    assert [len(commit) for commit in living.store.commits[-2:]] == [1, 4]


async def test_a_reservation_that_cannot_be_written_is_undone_the_last_first(living):
    await living.live(lived([]).told)
    undone: list[str] = []
    real = living.swarm.untake

    def untake(batch: Any) -> None:
        undone.append(batch.batch_id)
        real(batch)

    living.swarm.untake = untake
    before = living.killed("before").recover().swarm
    living.store.failing = True
    first, second = living.take(2), living.take(1)
    with pytest.raises(StorageError):
        await first
    with pytest.raises(StorageError):
        await second
    assert len(undone) == 3
    assert undone == sorted(undone, reverse=True)
    assert differences(living.swarm, before) == []
    living.store.failing = False
    await until(lambda: living.journal.trouble is None)
    assert len(await living.take()) == 3


async def test_whoever_reserves_wrongly_is_told_and_the_others_go_on(living):
    def wrong() -> list[tuple[Event, Any]]:
        raise ValueError("a fault")

    taking = living.journal.reserve(wrong, lambda _: None, 2.0)
    with pytest.raises(ValueError, match="a fault"):
        await taking
    await living.append(name(1))


# -- trouble -----------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_written_is_refused_and_what_must_is_kept_in_its_order(living):
    living.store.failing = True
    refused = [living.append(name(1)), living.append(name(2))]
    must = [living.append(name(10), must=True)]
    for each in refused:
        with pytest.raises(StorageError, match="the disk fails; nothing was changed"):
            await each
    await until(lambda: living.told)
    assert living.journal.in_trouble.is_set()
    with pytest.raises(StorageError):
        await living.append(name(3))
    with pytest.raises(StorageError):
        await living.take()
    must += [living.append(name(number), must=True) for number in (11, 12)]
    await asyncio.sleep(0.1)
    assert (living.applied, [each.done() for each in must]) == ([], [False] * 3)

    living.store.failing = False
    await asyncio.gather(*must)
    assert [event.display_name for event in living.applied] == ["name 10", "name 11", "name 12"]
    assert living.told == [True, False]
    assert not living.journal.in_trouble.is_set()
    await living.append(name(4))


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_it_recovers_by_itself_when_a_real_disk_has_room_again(living):
    await living.append(name(1))
    with no_room():
        refused, must = living.append(name(2)), living.append(name(3), must=True)
        with contextlib.suppress(StorageError):
            await refused
        is_refused, trouble = refused.exception(), living.journal.trouble
        await asyncio.sleep(0.1)
        is_waiting = not must.done()
    assert isinstance(is_refused, StorageError)
    assert trouble is not None
    assert is_waiting
    await must
    await living.append(name(4))
    assert [event.display_name for event in living.applied] == ["name 1", "name 3", "name 4"]


async def test_a_disk_that_fills_up_again_and_again(tmp_path, monkeypatch, often):
    """What is on disk is what is in memory at any time, and both are what was acknowledged."""
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.02)
    dice, disk, refused = random.Random(1), tmp_path / "disk", 0
    with small_disk(disk):
        living = Living(disk / "s")
        living.journal.start()
        for number in range(40):
            ballast = fill(disk, leave=dice.choice([0, 4096, 20_000, 200_000]))
            events = [TickAnswered(f"t{n}", f"{number}", dice.randbytes(dice.choice([9, 5000]))) for n in range(30)]
            waiting = [living.append(event, must=place % 10 == 0) for place, event in enumerate(events)]
            answers = await asyncio.gather(*waiting[1::10], return_exceptions=True)
            done = [not isinstance(answer, StorageError) for answer in answers]
            assert [any(event is each for each in living.applied) for event in events[1::10]] == done
            refused += done.count(False)
            if living.journal.trouble is not None:
                copy = after_a_crash(living.store, tmp_path / f"killed-{number}")
                assert differences(copy.recover().swarm, living.swarm) == []
            ballast.unlink()
            await asyncio.gather(*waiting[::10])
            await until(lambda: living.journal.trouble is None)
        await living.journal.close()
        recovered = living.store.recover()
        assert recovered.warnings == []
        assert differences(recovered.swarm, living.swarm) == []
        assert snapshots(living)
        living.pool.shutdown()
    assert refused > 10


async def test_an_event_that_cannot_be_applied_is_told_and_the_others_go_on(living, caplog):
    event = TickAnswered("a", "", b"")

    def fault() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        await living.journal.append(event, 2.0, fault)
    living.swarm.apply(event, 2.0)
    await living.append(name(1))
    assert "could not be applied" in caplog.text


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_what_was_reserved_and_written_stays_reserved_when_it_cannot_be_applied(living, caplog):
    undone: list[object] = []

    def refuse(_: Event) -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        await living.journal.reserve(lambda: [(name(1), "it")], undone.append, 2.0, refuse)
    living.swarm.apply(name(1), 2.0)
    assert undone == []
    assert "could not be applied" in caplog.text
    await living.append(name(2))


async def test_closing_writes_what_waits(living):
    living.store.slow = 0.02
    waiting = [living.append(name(number)) for number in range(10)]
    await living.journal.close()
    assert [each.done() for each in waiting] == [True] * 10
    assert living.swarm.display_name == "name 9"
    with pytest.raises(StorageError, match="the journal is closed: the daemon stops, or the swarm is being deleted"):
        await living.append(name(11))
    with pytest.raises(StorageError):
        await living.take()


async def test_closing_in_trouble_gives_up_what_nobody_was_told_of(living, caplog):
    living.store.failing = True
    must = living.append(name(1), must=True)
    await until(lambda: living.told)
    async with asyncio.timeout(5):
        await living.journal.close()
    with pytest.raises(StorageError):
        await must
    assert "1 events could not be written before the end" in caplog.text
    assert living.told[0]
    assert living.applied == []


async def test_files_are_closed_when_nothing_happens_and_opened_again(living, monkeypatch):
    monkeypatch.setattr(module, "REST_SECONDS", 0.05)
    await living.append(name(1))
    await living.append(name(2))
    await until(lambda: not (living.store.folder / "records-000001.db-wal").exists())
    await living.append(name(3))
    await until(lambda: not (living.store.folder / "records-000001.db-wal").exists())
    assert differences(SwarmStore(living.killed("copy").folder).recover().swarm, living.swarm) == []


# -- snapshots ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_AFTER_EVENTS", 10)


def snapshots(living: Living) -> list[str]:
    return sorted(path.name for path in living.store.folder.glob("snapshot-*.bin"))


async def test_a_swarm_goes_on_while_snapshots_are_made(living, often):
    life = lived()
    await living.live(life.told)
    await until(lambda: snapshots(living) and living.journal._snapshot is None)
    killed = living.killed("copy").recover()
    assert differences(killed.swarm, life.swarm) == []
    assert killed.events < len(life.told)
    assert differences(living.swarm, life.swarm) == []


async def test_no_snapshot_is_made_within_a_load(living, often):
    with living.journal.without_snapshots():
        for number in range(30):
            await living.append(name(number))
        await asyncio.sleep(0.1)
        assert snapshots(living) == []
    await living.append(name(99))
    await until(lambda: snapshots(living))


async def test_a_snapshot_that_is_ready_waits_for_the_end_of_a_load(living, often):
    for number in range(10):
        await living.append(name(number))
    with living.journal.without_snapshots():
        await until(lambda: living.journal._next_segment is not None)
        for number in range(10):
            await living.append(name(number))
        assert snapshots(living) == []
    await living.append(name(99))
    await until(lambda: snapshots(living) == ["snapshot-000000021.bin"])


async def test_a_snapshot_that_fails_leaves_everything_as_it_was(living, often, caplog):
    def fail(*_: object) -> int:
        raise StorageError("no room for a snapshot")

    real, living.store.keep_snapshot = living.store.keep_snapshot, fail
    for number in range(10):
        await living.append(name(number))
    await until(lambda: "no room for a snapshot" in caplog.text)
    assert living.journal.trouble is None
    await living.append(name(11))
    assert differences(living.killed("failed").recover().swarm, living.swarm) == []
    living.store.keep_snapshot = real
    for number in range(30):
        await living.append(name(number))
    await until(lambda: snapshots(living) and living.journal._snapshot is None)
    assert len(list(living.store.folder.glob("records-*.db"))) == 1


async def test_a_swarm_that_cannot_be_frozen_is_written_down_nevertheless(living, often, caplog, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("a load is under way")

    monkeypatch.setattr(module, "begin_freezing", refuse)
    for number in range(15):
        await living.append(name(number))
    await until(lambda: "a load is under way" in caplog.text)
    await living.append(name(99))


async def test_nothing_is_applied_while_a_swarm_is_copied_and_others_go_on(living, often, monkeypatch):
    begun, go_on, real = threading.Event(), threading.Event(), begin_freezing

    def slowly(swarm: Swarm, room: Room | None) -> Callable[[], Frozen]:
        copy = real(swarm, room)

        def copied() -> Frozen:
            begun.set()
            go_on.wait(5)
            return copy()

        return copied

    monkeypatch.setattr(module, "begin_freezing", slowly)
    for number in range(10):
        await living.append(name(number))
    await until(begun.is_set)  # so the event loop is free
    applied, seq = len(living.applied), living.journal._seq
    waiting = [living.append(name(100)), living.journal.reserve(list, lambda _: None, 2.0)]
    await asyncio.sleep(0.05)
    assert (len(living.applied), [each.done() for each in waiting]) == (applied, [False, False])
    go_on.set()
    await asyncio.gather(*waiting)
    await until(lambda: snapshots(living) == [f"snapshot-{seq:09}.bin"])
    assert differences(living.killed("then").recover().swarm, living.swarm) == []


async def test_a_swarm_is_copied_also_when_all_threads_of_the_event_loop_have_other_work(living, often):
    go_on, loop = threading.Event(), asyncio.get_running_loop()
    loop.set_default_executor(others := ThreadPoolExecutor(1))
    try:
        await asyncio.gather(*(living.append(name(number)) for number in range(10)))
        with living.journal.without_snapshots():
            await until(lambda: living.journal._next_segment is not None)
            others.submit(go_on.wait, 5)
        async with asyncio.timeout(2):
            await living.append(name(100))
    finally:
        go_on.set()
    await until(lambda: snapshots(living))


async def test_the_files_of_a_swarm_do_not_grow_with_its_age(living, often):
    sizes = []
    for _ in range(12):
        for number in range(10):
            await asyncio.gather(*(living.append(TickAnswered(f"t{n}", "", bytes(3000))) for n in range(number)))
        await until(lambda: living.journal._snapshot is None)
        sizes.append(sum(path.stat().st_size for path in living.store.folder.iterdir()))
    assert max(sizes) < 500_000 < 12 * 45 * 3000, "less than was written"
    assert len(list(living.store.folder.iterdir())) <= 6


async def test_closing_does_not_wait_for_a_snapshot_that_cannot_come(living, often):
    for number in range(10):
        await living.append(name(number))
    with living.journal.without_snapshots():
        await until(lambda: living.journal._next_segment is not None)
        async with asyncio.timeout(5):
            await living.journal.close()


# -- without a disk ----------------------------------------------------------------------------------------------------


async def test_a_journal_in_memory_applies_at_once():
    journal = MemoryJournal()
    seen: list[int] = []
    await journal.append(name(1), 2.0, lambda: seen.append(1))
    assert seen == [1]

    async def later() -> str:
        return "done"

    apply: Any = later
    assert await journal.append(name(1), 2.0, apply) == "done"
    assert await journal.reserve(lambda: [(name(1), 7)], lambda _: None, 2.0) == [7]
    with journal.without_snapshots():
        journal.count(1, 1)
    assert (journal.durable, journal.trouble) == (False, None)
    await journal.close()
