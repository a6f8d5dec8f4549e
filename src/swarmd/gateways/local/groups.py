"""Whether a process group has living members besides its leader, from /proc.

Asked only after a group was told to end and its leader did: the others have the rest of the grace.
"""

import asyncio
import os
from pathlib import Path

PROC = Path("/proc")
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
            self._groups, self._seen_at = groups_with_followers(), now
        return group in self._groups


def groups_with_followers() -> set[int]:
    """The process groups in which a process lives that does not lead it."""
    found = set()
    for name in os.listdir(PROC):  # noqa: PTH208 - names are enough, and there may be thousands
        if name.isdigit():
            group = _group_of(name)
            if group not in (0, int(name)):
                found.add(group)
    return found


def _group_of(pid: str) -> int:
    """The group of a process; 0 when it is gone or dead."""
    try:
        text = (PROC / pid / "stat").read_bytes()
    except OSError:
        return 0
    # After the program's name, which may hold anything: state, parent, group; proc_pid_stat(5).
    state, _, group = text[text.rindex(b")") + 1 :].split()[:3]
    return 0 if state in b"ZX" else int(group)
