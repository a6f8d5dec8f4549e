"""Who lives in a process group besides its leader, from /proc.

Asked when a group was told to end and its leader did: the others have the rest of the grace. And after a restart of the
daemon, for what is left of groups whose leader ended meanwhile.
"""

import asyncio
import os

from swarmd.gateways.local.procfs import environment_of, file_of, process_ids, stat_of
from swarmd.gateways.output import OutputPaths

STALE_AFTER_SECONDS = 0.02


class LivingGroups:
    """One look at all processes answers for all groups that are asked after at about the same time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._groups: set[int] = set()
        self._seen_at = float("-inf")

    def has_followers(self, group: int) -> bool:
        """Whether anybody but the leader lives in the group, some milliseconds ago or now."""
        now = self._loop.time()
        if now - self._seen_at > STALE_AFTER_SECONDS:
            self._groups, self._seen_at = set(all_followers()), now
        return group in self._groups


def all_followers() -> dict[int, list[int]]:
    """The living processes that do not lead their group, by group."""
    found: dict[int, list[int]] = {}
    for pid in process_ids():
        stat = stat_of(pid)
        if stat is not None and not stat.is_dead and stat.group not in (0, pid):
            found.setdefault(stat.group, []).append(pid)
    return found


def groups_of(marks: frozenset[bytes], output: OutputPaths) -> list[int]:
    """The groups of all living processes of an attempt that still write where it does.

    By variables alone they could be another daemon's.
    """
    out, err = os.path.realpath(output.out), os.path.realpath(output.err)
    found: dict[int, None] = {}
    for pid in process_ids():
        stat = stat_of(pid)
        if stat is None or stat.is_dead or not marks.issubset(environment_of(pid)):
            continue
        if file_of(pid, 1) == out or file_of(pid, 2) == err:
            found[stat.group] = None
    return list(found)
