"""Physical limits: a commit of SQLite, and memory that is copied, beside what of ours leans on them."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from benchmarks.suite.raw import APPLY_UPDATE, Dialogue, channel_to
from benchmarks.suite.results import Results, Row
from benchmarks.suite.sampling import take_turns
from benchmarks.suite.servers import daemon
from benchmarks.suite.setting import Setting
from benchmarks.suite.swarms import flat, loaded, ready_state, remove, update

from swarmd._pb.swarm.v1 import task_pb2
from swarmd.core.events import Created, SwarmSettings
from swarmd.core.freezing import freeze, make_room
from swarmd.core.swarm import Swarm

JOURNAL = ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 2000")
"""As the journal has it."""
RECORD_BYTES = 60
"""About what one update of one task takes in the journal."""


def commits(results: Results, setting: Setting) -> None:
    """Durable updates, each waited for before the next is sent, beside bare commits of as many bytes."""
    count = setting.sizes.commits
    with daemon(setting.place("c")) as served, closing(_bare_journal(setting.place("q"))) as bare:
        contenders = {
            "ours": lambda: asyncio.run(_waited_for(served.address, count)),
            "peer": lambda: _bare_commits(bare, count),
        }
        take_turns(1, contenders)  # warm: files that have grown are written to faster
        found = take_turns(setting.sizes.rounds, contenders)
    name = "durable updates of 1 change, one after the other"
    results.rows.append(Row(name, "updates/s", found["ours"], found["peer"], "bare SQLite commit", more_is_better=True))


async def _waited_for(address: str, count: int) -> float:
    async with channel_to(address) as channel:
        await loaded(channel, "c", flat(count, 1))
        dialogue = Dialogue(channel, APPLY_UPDATE)
        begun = time.perf_counter()
        for task_id in range(1, count + 1):
            await dialogue.ask(update("c", task_pb2.TASK_STATUS_DONE, [task_id]))
        seconds = time.perf_counter() - begun
        await dialogue.end()
        await remove(channel, "c")
    return count / seconds


def _bare_journal(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for pragma in JOURNAL:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, at REAL, event BLOB)")
    return connection


def _bare_commits(connection: sqlite3.Connection, count: int) -> float:
    """Commits a second of one row each."""
    record = bytes(RECORD_BYTES)
    begun = time.perf_counter()
    for _ in range(count):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO events (at, event) VALUES (?, ?)", (0.0, record))
        connection.execute("COMMIT")
    return count / (time.perf_counter() - begun)


def copies(results: Results, setting: Setting) -> None:
    """What a snapshot copies between two events, beside a plain copy of as many bytes: the memory's bandwidth."""
    tasks = setting.sizes.swarm_tasks
    swarm = Swarm(Created(SwarmSettings("bench"), "token"), 0.0)
    swarm.state = ready_state(tasks, setting.sizes.swarm_arrays)
    room = make_room(tasks)
    source = {name: np.ones(tasks, dtype=column.dtype) for name, column in room.items()}
    target = {name: np.ones_like(column) for name, column in source.items()}
    found = take_turns(
        setting.sizes.rounds * 2,
        {"ours": lambda: _timed(lambda: freeze(swarm, room)), "peer": lambda: _timed(lambda: _copy(source, target))},
    )
    size = sum(column.nbytes for column in source.values())
    note = f"{size / 1e6:.0f} MB, {size / min(found['peer'].values) / 1e6:.1f} GB/s"
    results.rows.append(
        Row(
            f"columns copied for a snapshot of {tasks:,} tasks",
            "ms",
            found["ours"],
            found["peer"],
            "memory bandwidth",
            note=note,
        )
    )


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begun)


def _copy(source: "dict[str, np.ndarray]", target: "dict[str, np.ndarray]") -> None:
    for name, column in source.items():
        np.copyto(target[name], column)
