"""Records a journal of the present version, to be replayed by every version that comes after it.

    python -m tests.journal.record [NAME]   before each release: writes recorded/VERSION/, and never over one

NAME takes the place of the version when a format was raised between two releases.

A recording holds two swarms, `events` as a kill left it, with its log, and `snapshot` with a snapshot in the middle,
and `expected.json`, which says what they are when they come back.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swarmd._version import __version__
from swarmd.core.events import Loaded, LoadPart
from swarmd.core.swarm import Swarm
from swarmd.journal import directory, segment, snapshot
from swarmd.journal.store import MARK, SwarmStore
from tests.core.test_freezing import A_LONG_LIFE, Life, lived
from tests.journal.stores import after_a_crash, keep_snapshot, stored, write

RECORDED = Path(__file__).with_name("recorded")
EXPECTED = "expected.json"
FORMATS = {"directory": directory.FORMAT, "segment": segment.FORMAT, "snapshot": snapshot.FORMAT}
"""The versions of all that a journal is written in."""
ITS_NEWS = [("tell", 22, 3), ("tell", 103, 1), ("fail", 31, 0)]
"""So that tasks are done and failed at its end, too."""


def account_of(swarm: Swarm) -> dict[str, Any]:
    """All that a user can see of a swarm, as JSON has it."""
    state = swarm.state
    views, _ = state.tasks(start=0, limit=state.task_count)
    account = {
        "settings": {**asdict(swarm.created.settings), "token": swarm.created.token},
        "request": [swarm.created.request_id, swarm.created.asked],
        "display_name": swarm.display_name,
        "switches": [state.paused, state.fail_fast, swarm.autopilot, str(state.run_status)],
        "sync_time": str(state.sync_time),
        "limit": state.max_concurrently_running,
        "revision": state.revision,
        "counts": asdict(state.counts()),
        "tasks": [asdict(view) for view in views],
        "attempts": [[asdict(each) for each in state.history.of(row)] for row in range(state.task_count)],
        "arrays": [asdict(array) for array in state.table.arrays],
        "array_limits": state.table.usage.limits().tolist(),
        "task_resources": [asdict(each) for each in state.table.resources],
        "queue_limits": [asdict(each) for each in state.table.queues.known.values()],
        "batches": [
            [known.batch.batch_id, known.batch.task_ids.tolist(), known.in_doubt, known.doubt, known.request_id]
            for known in [*state.open_batches.values(), *state.reservations.handed_out.values()]
        ],
        "unanswered": {key: [batch.batch_id for batch in batches] for key, batches in swarm.unanswered.items()},
        "loads": {key: asdict(answer) for key, answer in swarm.loads.items()},
        "ticks": {key: [tick.asked, tick.answer.hex()] for key, tick in swarm.ticks.items()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(account, default=str))
    return plain


def record(folder: Path) -> None:
    """Write a recording. The folder must not be there yet."""
    folder.mkdir(parents=True)
    life = lived([*A_LONG_LIFE, *ITS_NEWS])
    with tempfile.TemporaryDirectory() as place:
        for store in (_killed(Path(place), life), _with_snapshot(Path(place), life)):
            shutil.copytree(store.folder, folder / store.folder.name)
    expected = {"version": __version__, "formats": FORMATS, "seq": 1 + len(life.told), "swarm": account_of(life.swarm)}
    (folder / EXPECTED).write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


def _killed(place: Path, life: Life) -> SwarmStore:
    """The last events are in the log alone."""
    stored(place / "store", life.told[:-4], at_once=1000).rest()
    store = SwarmStore(place / "store")
    write(store, life.told[-4:], first=2 + len(life.told[:-4]))
    killed = after_a_crash(store, place / "events")
    store.rest()
    return killed


def _with_snapshot(place: Path, life: Life) -> SwarmStore:
    """Every kind of event is also behind the snapshot."""
    until = next(n for n, (event, _) in enumerate(life.told) if n > 8 and not isinstance(event, (LoadPart, Loaded)))
    store = stored(place / "snapshot", life.told[:until], at_once=1000)
    keep_snapshot(store, life.told[:until])
    write(store, life.told[until:], first=2 + until, at_once=1000)
    store.rest()
    assert (store.folder / MARK).exists()
    return store


if __name__ == "__main__":
    folder = RECORDED / (sys.argv[1] if len(sys.argv) > 1 else __version__)
    record(folder)
    sys.stdout.write(f"{folder}\n")
