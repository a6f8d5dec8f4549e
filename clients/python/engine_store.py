"""What the engine must not forget, in SQLite: batches that it answered for, attempts that are not over, and the news.

Every method is one transaction and on disk when it returns. An answer is given only after that, so that whoever got it
finds the same when he asks again, whatever was killed meanwhile.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarm.v1 import gateway_service_pb2 as pb
from swarm.v1 import state_pb2, task_pb2

NEWS_KEPT = 1_000_000
"""Messages. A daemon that was away while more happened would not hear of the oldest."""
NEWS_PRUNED_EVERY = 10_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS about (life TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    swarm_id TEXT, batch_id TEXT,
    answer BLOB, -- the QueueBatchResponse; NULL: it was said of the batch that it will not be taken
    PRIMARY KEY (swarm_id, batch_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    place INTEGER PRIMARY KEY AUTOINCREMENT, -- they start in this order
    swarm_id TEXT, task_id INTEGER, attempt INTEGER,
    name TEXT, command TEXT, array_id INTEGER, cores INTEGER, runtime REAL,
    directory TEXT, environment TEXT, -- as JSON
    boot TEXT, -- when it was given to `engine_runs`, or was about to be: of the machine; NULL: it waits
    ending TEXT NOT NULL DEFAULT '', -- why it is being ended: 'cancelled' or 'overran'
    UNIQUE (swarm_id, task_id, attempt));
CREATE INDEX IF NOT EXISTS running ON attempts (place) WHERE boot IS NOT NULL;
CREATE TABLE IF NOT EXISTS news (seq INTEGER PRIMARY KEY AUTOINCREMENT, swarm_id TEXT, message BLOB);
"""
COLUMNS = (
    "place, swarm_id, task_id, attempt, name, command, array_id, cores, runtime, directory, environment, boot, ending"
)


@dataclass(frozen=True)
class Attempt:
    """An attempt that is not over."""

    place: int
    swarm_id: str
    task_id: int
    attempt: int
    name: str
    command: str
    array_id: int
    cores: int
    runtime: float
    """Seconds; 0: as long as it likes."""
    directory: str
    """Where it starts; empty: anywhere."""
    environment: str
    """What is added to its environment, as JSON."""
    boot: str | None
    """Under which boot of the machine it was started; None: it waits."""
    ending: str
    """Why it is being ended: "cancelled" or "overran"; empty: it is not."""


@dataclass(frozen=True)
class End:
    """How one was over."""

    attempt: Attempt
    status: int
    reason: str = ""


class Store:
    """One file, for one engine at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)
        with self._transaction():
            if self._db.execute("SELECT life FROM about").fetchone() is None:
                self._db.execute("INSERT INTO about VALUES (?)", [secrets.token_hex(4)])
        self.life: str = self._db.execute("SELECT life FROM about").fetchone()[0]
        """Tells this file from one that was there before: places in the news of another one mean nothing here."""

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- batches -----------------------------------------------------------------------------------------------------

    def take(self, request: pb.QueueBatchRequest, answer: pb.QueueBatchResponse) -> pb.QueueBatchResponse | None:
        """Take a batch but for what `answer` refuses, and give back the answer: the first one, however often it comes.

        None: it was said of this batch that it will not be taken, so it is not.
        """
        batch = request.batch
        refused = {task_id for refusal in answer.refusals for task_id in refusal.task_ids}
        with self._transaction():
            known = self._answer(request.swarm_id, batch.batch_id)
            if known is not None:
                return known[0]
            sql = "INSERT INTO batches VALUES (?, ?, ?)"
            self._db.execute(sql, [request.swarm_id, batch.batch_id, answer.SerializeToString()])
            resources = batch.task_resources
            runtime = resources.runtime.seconds + resources.runtime.nanos / 1e9
            same = [max(1, resources.cores), runtime, request.working_directory, json.dumps(dict(request.environment))]
            columns = "swarm_id, task_id, attempt, name, command, array_id, cores, runtime, directory, environment"
            for task in batch.tasks:
                if task.task_id not in refused:
                    row = [request.swarm_id, task.task_id, task.attempt, task.name, task.command, batch.array_id]
                    self._db.execute(
                        f"INSERT INTO attempts ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [*row, *same]
                    )
        return answer

    def find(self, swarm_id: str, batch_id: str) -> pb.QueueBatchResponse | None:
        """The answer that a batch got. None: it was not taken, and never will be from now on."""
        with self._transaction():
            known = self._answer(swarm_id, batch_id)
            if known is not None:
                return known[0]
            self._db.execute("INSERT INTO batches VALUES (?, ?, NULL)", [swarm_id, batch_id])
        return None

    def _answer(self, swarm_id: str, batch_id: str) -> tuple[pb.QueueBatchResponse | None] | None:
        sql = "SELECT answer FROM batches WHERE swarm_id = ? AND batch_id = ?"
        row = self._db.execute(sql, [swarm_id, batch_id]).fetchone()
        if row is None:
            return None
        return (None if row[0] is None else pb.QueueBatchResponse.FromString(row[0]),)

    # -- attempts ----------------------------------------------------------------------------------------------------

    def running(self) -> list[Attempt]:
        return self._attempts("WHERE boot IS NOT NULL ORDER BY place")

    def waiting(self, most: int) -> list[Attempt]:
        """Those that start next."""
        return self._attempts("WHERE boot IS NULL ORDER BY place LIMIT ?", most)

    def _attempts(self, where: str, *values: object) -> list[Attempt]:
        return [Attempt(*row) for row in self._db.execute(f"SELECT {COLUMNS} FROM attempts {where}", values)]

    def start(self, attempts: list[Attempt], boot: str) -> None:
        """They are about to run."""
        with self._transaction():
            for each in attempts:
                self._db.execute("UPDATE attempts SET boot = ? WHERE place = ?", [boot, each.place])
            self._tell(End(each, task_pb2.TASK_STATUS_RUNNING) for each in attempts)

    def end(self, ends: list[End]) -> None:
        """They are over. Of those that were cancelled nothing is told."""
        with self._transaction():
            for each in ends:
                self._db.execute("DELETE FROM attempts WHERE place = ?", [each.attempt.place])
            self._tell(each for each in ends if each.attempt.ending != "cancelled")

    def mark(self, attempt: Attempt, ending: str) -> None:
        """It is to be ended."""
        with self._transaction():
            self._db.execute("UPDATE attempts SET ending = ? WHERE place = ?", [ending, attempt.place])

    def cancel(self, swarm_id: str, keys: Iterable[tuple[int, int]]) -> None:
        """Those that wait never start; those that run are to be ended; others are over already."""
        where = "WHERE swarm_id = ? AND task_id = ? AND attempt = ?"
        with self._transaction():
            for key in keys:
                self._db.execute(f"DELETE FROM attempts {where} AND boot IS NULL", [swarm_id, *key])
                self._db.execute(f"UPDATE attempts SET ending = 'cancelled' {where}", [swarm_id, *key])

    # -- news --------------------------------------------------------------------------------------------------------

    def _tell(self, news: Iterable[End]) -> None:
        """One message a swarm, the tasks of the same status in one group."""
        updates: dict[str, state_pb2.StateUpdate] = {}
        groups: dict[tuple[str, int, str], state_pb2.TaskStatusGroup] = {}
        for each in news:
            key = each.attempt.swarm_id, each.status, each.reason
            if key not in groups:
                update = updates.setdefault(each.attempt.swarm_id, state_pb2.StateUpdate())
                groups[key] = update.task_statuses.add(status=each.status, reason=each.reason)
            groups[key].task_ids.append(each.attempt.task_id)
            groups[key].attempts.append(each.attempt.attempt)
        for swarm_id, update in updates.items():
            sql = "INSERT INTO news (swarm_id, message) VALUES (?, ?)"
            seq = self._db.execute(sql, [swarm_id, update.SerializeToString()]).lastrowid
            if seq % NEWS_PRUNED_EVERY == 0:
                self._db.execute("DELETE FROM news WHERE seq <= ?", [seq - NEWS_KEPT])

    def last_seq(self) -> int:
        """That of the newest message."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'news'").fetchone()
        return row[0] if row else 0

    def news_after(self, seq: int, most: int = 100) -> list[tuple[int, str, bytes]]:
        """Number, swarm and message of what was told after that one."""
        sql = "SELECT seq, swarm_id, message FROM news WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._db.execute(sql, [seq, most]).fetchall()
