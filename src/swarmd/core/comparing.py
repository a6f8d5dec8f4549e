"""In what do two swarms differ? For tests, and for anybody who doubts that a journal tells what happened.

Everything that a snapshot keeps is compared, and what is counted anew from it as well. That includes the numbers of
lanes, resources and records: they follow from the order of events, so that the same events lead to the same numbers,
and lanes with the same numbers have the same priority, array and resources.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from swarmd.core.freezing import DTYPES, Column, Frozen, as_it_is
from swarmd.core.swarm import Swarm
from swarmd.core.table import Table
from swarmd.core.text import FrozenTexts

SHOWN_CHARACTERS = 200


def differences(one: Swarm, other: Swarm) -> list[str]:
    """Everything in which they differ, one sentence each; empty when they are the same."""
    return list(_differences(one, other))


def _differences(one: Swarm, other: Swarm) -> Iterator[str]:
    first, second = as_it_is(one), as_it_is(other)
    yield from _of_values(first.facts(), second.facts())
    yield from _of_contents(first, second)
    yield from _of_values(_counted(one), _counted(other))
    yield from _of_columns(_columns_counted(one.state.table), _columns_counted(other.state.table))


def _of_values(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name), other.get(name)
        if mine != theirs:
            yield f"{name} differs{_where(mine, theirs)}"


def _where(mine: object, theirs: object) -> str:
    """The first place in which two values differ, and what is there."""
    if isinstance(mine, list) and isinstance(theirs, list):
        if len(mine) != len(theirs):
            return f": {len(mine)} and {len(theirs)} of them"
        place = next(place for place in range(len(mine)) if mine[place] != theirs[place])
        return f" in place {place}{_where(mine[place], theirs[place])}"
    if isinstance(mine, dict) and isinstance(theirs, dict):
        key = min(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        return f" at {key}{_where(mine.get(key), theirs.get(key))}"
    return f": {_shown(mine)} and {_shown(theirs)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _of_contents(one: Frozen, other: Frozen) -> Iterator[str]:
    (mine, my_texts), (theirs, their_texts) = one.contents(), other.contents()
    mine |= {"names.ends": _all_ends(one.names), "commands.ends": _all_ends(one.commands)}
    theirs |= {"names.ends": _all_ends(other.names), "commands.ends": _all_ends(other.commands)}
    yield from _of_columns({name: mine[name] for name in DTYPES}, theirs)
    for name, pieces in my_texts.items():
        if b"".join(pieces) != b"".join(their_texts[name]):
            yield f"{name} differ"


def _all_ends(texts: FrozenTexts) -> Column:
    """Where each text ends, with those that cost nothing: columns differ in how many these are."""
    return np.concatenate((np.zeros(texts.size - len(texts.ends), dtype=np.int64), texts.ends))


def _of_columns(one: Mapping[str, Column], other: Mapping[str, Column]) -> Iterator[str]:
    for name, mine in one.items():
        theirs = other[name]
        if len(mine) != len(theirs):
            yield f"{name} has {len(mine)} and {len(theirs)} elements"
        elif not np.array_equal(mine, theirs):
            places = np.flatnonzero(mine != theirs)
            place = int(places[0])
            yield f"{name} differs in {len(places)} places, first in {place}: {mine[place]} and {theirs[place]}"


# -- what is counted and not kept --------------------------------------------------------------------------------------


def _counted(swarm: Swarm) -> dict[str, Any]:
    state, table = swarm.state, swarm.state.table
    return {
        "swarm id": state.swarm_id,
        "prefix of batches": state.batch_prefix,
        "parts under way": swarm.parts_under_way,
        "totals by status": table.usage.totals,
        "count of arrays": table.usage.array_count,
        "count of ready tasks": table.queue.live,
        "ready tasks by array": [table.queue.live_of(row) for row in range(len(table.arrays))],
        "arrays with work and room": sorted(table.queue.open_arrays()),
        "sizes of the indices": [table.ids.size, table.array_ids.size, table.resources_ids.size],
    }


def _columns_counted(table: Table) -> dict[str, Column]:
    sources, targets = table.downstreams.edges()
    waiting, numbers = table.queue.waiting()
    arrays = np.array([array.array_id for array in table.arrays], dtype=np.int64)
    resources = np.array([each.task_resources_id for each in table.resources], dtype=np.int64)
    return {
        "upstreams_left": table.upstreams_left[: table.size],
        "downstreams": np.sort(sources.astype(np.int64) << 32 | targets),
        "tasks in lanes": waiting,
        "their numbers": numbers,
        "counts by array and status": table.usage.counts().reshape(-1),
        "active tasks by array": table.usage.active_by_array(),
        "rows of task ids": table.ids.find(table.task_id[: table.size]),
        "rows of array ids": table.array_ids.find(arrays),
        "rows of resources ids": table.resources_ids.find(resources),
    }
