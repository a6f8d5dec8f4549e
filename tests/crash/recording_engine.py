"""RecordingEngine: an engine outside the daemon's process that remembers every attempt that it was ever given.

It lives in the process of the test, so it outlives every daemon that is killed. A gateway (`recording_gateway.py`)
talks to it through a Unix socket, in lines of JSON: requests with a number, answers with the same number, and news
without one.

A task whose command is "told" runs until somebody else says how it went; every other task ends by itself at once, and
"flaky" ones fail in their first attempt.
"""

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Key = tuple[str, int, int]
"""A swarm, a task and an attempt."""
News = tuple[int, int, str]
"""A task, an attempt, and how it ended."""
Message = dict[str, Any]


@dataclass
class Record:
    """What the engine was told and asked, in order."""

    given: list[Key] = field(default_factory=list)
    """Every attempt that it took, once for each time that it was given it."""
    batches: dict[str, list[Key]] = field(default_factory=dict)
    """What it took of each batch."""
    ended: dict[Key, str] = field(default_factory=dict)
    """The attempts that ended by themselves, and how."""
    cancelled: set[Key] = field(default_factory=set)
    strangers: list[Key] = field(default_factory=list)
    """Attempts that a daemon believed to be here and that never were."""
    disowned: set[str] = field(default_factory=set)
    """Batches of which it said that it never will take them."""

    def given_twice(self) -> list[Key]:
        return [key for key, times in Counter(self.given).items() if times > 1]

    def not_over(self) -> list[Key]:
        """Attempts after which their task was given to it once more, though they neither failed nor were cancelled."""
        latest: dict[tuple[str, int], int] = {}
        for swarm, task_id, attempt in self.given:
            latest[swarm, task_id] = max(attempt, latest.get((swarm, task_id), 0))
        earlier = [key for key in self.given if key[2] < latest[key[:2]]]
        return [key for key in earlier if self.ended.get(key) != "E" and key not in self.cancelled]


class RecordingEngine:
    """Listens on `path` from `start` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = Record()
        self._refused_once: set[str] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)

    def start(self) -> None:
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, name="recording engine", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    # -- connections -----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="recording connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Until the daemon is gone. What it wrote before it was killed is read to the end, and done."""
        with connection, connection.makefile("rb") as requests, contextlib.suppress(OSError):
            for line in requests:
                if not line.endswith(b"\n"):
                    return  # killed in the middle of it
                request = json.loads(line)
                with self._lock:
                    answers = list(self._answers(request))
                # A daemon that was killed meanwhile hears nothing any more: what was done stays done.
                with contextlib.suppress(OSError):
                    connection.sendall(b"".join(json.dumps(answer).encode() + b"\n" for answer in answers))

    def _answers(self, request: Message) -> Iterator[Message]:
        what = getattr(self, "_" + request["call"])
        answer, news = what(request)
        told = [{"news": news, "swarm": request["swarm"]}] if news else []
        if len(self.record.batches) % 2:  # news may come before the answer and after it
            yield from told
            yield {**answer, "number": request["number"]}
        else:
            yield {**answer, "number": request["number"]}
            yield from told

    # -- calls -----------------------------------------------------------------------------------------------------

    def _queue(self, request: Message) -> tuple[Message, list[News]]:
        batch_id, refused, ends = request["batch"], [], []
        if batch_id in self.record.disowned:
            return {"refused": [task_id for task_id, _, _ in request["tasks"]]}, []
        taken = self.record.batches.setdefault(batch_id, [])
        for task_id, attempt, command in request["tasks"]:
            key = request["swarm"], task_id, attempt
            if command == "shy" and task_id not in self._refused_once:
                self._refused_once.add(task_id)
                refused.append(task_id)
                continue
            self.record.given.append(key)
            taken.append(key)
            if command != "told":
                self.record.ended[key] = "E" if command == "flaky" and attempt == 1 else "D"
                ends.append((task_id, attempt, self.record.ended[key]))
        return {"refused": refused}, ends

    def _find(self, request: Message) -> tuple[Message, list[News]]:
        """Whether it has a batch; when it has not, it never will: what a dead daemon wrote may still be on its way."""
        taken = self.record.batches.get(request["batch"])
        if taken is None:
            self.record.disowned.add(request["batch"])
            return {"found": False, "taken": []}, []
        return {"found": True, "taken": [task_id for _, task_id, _ in taken]}, self._ends_of(taken)

    def _look(self, request: Message) -> tuple[Message, list[News]]:
        """What became of attempts that an earlier daemon gave it."""
        keys = [(request["swarm"], task_id, attempt) for task_id, attempt in request["attempts"]]
        self.record.strangers += [key for key in keys if key not in set(self.record.given)]
        return {}, self._ends_of(keys)

    def _cancel(self, request: Message) -> tuple[Message, list[News]]:
        self.record.cancelled |= {(request["swarm"], task_id, attempt) for task_id, attempt in request["attempts"]}
        return {}, []

    def _ends_of(self, keys: list[Key]) -> list[News]:
        ended = self.record.ended
        return [(key[1], key[2], ended[key]) for key in keys if key in ended]
