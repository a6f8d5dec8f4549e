"""How the swarms of a daemon stand, in full but bounded, for a bug report: plain values that JSON can hold.

Leaves out what may be secret: commands, the values of environment variables, and reasons, which quote both.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from swarmd.core.reservations import OpenBatch
from swarmd.core.views import counts_of_array
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm

SHOWN_SWARMS = 200
SHOWN_ARRAYS = 100
SHOWN_BATCHES = 100
SHOWN_FILES = 100


def facts_of(registry: Registry) -> dict[str, Any]:
    """All that may help to find out what is wrong."""
    swarms = registry.all()
    trouble = registry.trouble
    return {
        "starting": registry.starting,
        "draining": registry.draining,
        "trouble": None if trouble is None else trouble.message,
        "gateways": sorted(registry.gateways),
        "swarm_count": len(swarms),
        "swarms": [_swarm(swarm) for swarm in swarms[-SHOWN_SWARMS:]],
        "set_aside": [
            {"swarm_id": each.swarm_id, "problem": each.problem, "folder": str(each.folder)}
            for each in registry.set_aside.values()
        ],
    }


def private_texts(registry: Registry) -> list[str]:
    """Commands of arrays and values of environment variables, which nothing that is shown may quote."""
    found: list[str] = []
    for swarm in registry.all():
        found += swarm.settings.environment.values()
        found += [array.command for array in swarm.state.table.arrays]
    return found


def files_below(folder: Path) -> list[dict[str, Any]]:
    """The files in a folder with their sizes and times, as far as they can be seen; never what is in them."""
    found: list[dict[str, Any]] = []
    try:
        for path in sorted(folder.iterdir())[:SHOWN_FILES]:
            seen = path.lstat()
            found.append({"name": path.name, "bytes": seen.st_size, "changed_at": seen.st_mtime, "mode": seen.st_mode})
    except OSError as error:
        found.append({"name": folder.name, "problem": str(error.strerror)})
    return found


def _swarm(swarm: HostedSwarm) -> dict[str, Any]:
    state, settings = swarm.state, swarm.settings
    counts = state.table.usage.counts()
    shown = np.argsort(-counts.sum(axis=1), kind="stable")[:SHOWN_ARRAYS]
    trouble = swarm.journal.trouble
    return {
        "swarm_id": swarm.swarm_id,
        "gateway": swarm.gateway.name,
        "created_at": swarm.swarm.created_at,
        "in_memory": swarm.in_memory,
        "outcome": state.outcome,
        "held": state.held_reason,
        "paused": state.paused,
        "autopilot": swarm.autopilot,
        "fail_fast": state.fail_fast,
        "scheduling_policy": str(state.scheduling_policy),
        "run_status": state.run_status.name,
        "revision": state.revision,
        "max_concurrently_running": state.max_concurrently_running,
        "available_capacity": state.available_capacity,
        "has_work": state.has_work(),
        "counts": asdict(state.counts()),
        "environment_names": sorted(settings.environment),
        "watchers": swarm.feed.watchers,
        "calls_under_way": swarm.scheduler.calls_under_way,
        "array_count": len(counts),
        "arrays": [_array(swarm, row) for row in shown.tolist()],
        "open_batch_count": len(state.open_batches),
        "open_batches": [_batch(each) for each in list(state.open_batches.values())[:SHOWN_BATCHES]],
        "journal_trouble": None if trouble is None else trouble.message,
    }


def _array(swarm: HostedSwarm, row: int) -> dict[str, Any]:
    table = swarm.state.table
    array, counts = table.arrays[row], counts_of_array(table, row)
    return {
        "array_id": array.array_id,
        "name": array.name,
        "max_concurrently_running": table.usage.limit(row),
        "counts": {name: count for name, count in asdict(counts).items() if count},
    }


def _batch(known: OpenBatch) -> dict[str, Any]:
    batch = known.batch
    return {
        "batch_id": batch.batch_id,
        "array_id": batch.array_id,
        "tasks": len(batch),
        "taken_at": known.taken_at,
        "in_doubt": known.in_doubt,
    }
