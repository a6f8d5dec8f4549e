"""Where to ask after elements that have left the queue: sacct where the site keeps accounts, or jobcomp's file.

Both can be missing, and both may be behind: nothing here says that something is not so.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from swarmd.gateways.slurm.programs import Programs

LAST_BYTES = 16 * 1024 * 1024
"""How much of the end of jobcomp's file is read."""
JOBS_AT_ONCE = 500
_NAME = re.compile(r" Name=(\S*)")
_PAIRS = re.compile(r"(\w+)=(\S*)")


@dataclass(frozen=True, slots=True)
class Past:
    """How an element ended, as Slurm's records have it."""

    state: str
    exit_code: int
    """Below zero: the number of the signal."""


Pasts = Mapping[str, Past]
"""By the element's name at Slurm, `<job>_<index>`; `<job>_` for all that was cancelled of an array while it waited."""


async def from_accounts(programs: Programs, jobs: Mapping[int, str]) -> Pasts:
    """What sacct says of these jobs, given with their names: a number may be another job's by now."""
    found: dict[str, Past] = {}
    numbers = sorted(jobs)
    for start in range(0, len(numbers), JOBS_AT_ONCE):
        some = ",".join(map(str, numbers[start : start + JOBS_AT_ONCE]))
        fields = "JobID,JobName%256,State,ExitCode"
        answer = await programs.call("sacct", "-n", "-X", "-P", "-S", "now-30days", "-j", some, "-o", fields)
        if answer.is_good:
            found |= read_accounts(answer.out, jobs)
    return found


def read_accounts(text: str, jobs: Mapping[int, str]) -> Pasts:
    """What sacct printed: `12_3|name|FAILED|2:0`."""
    found: dict[str, Past] = {}
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == 4:
            _note(found, parts[0], parts[1], jobs, Past(parts[2].split(" ", 1)[0], _code(parts[3])))
    return found


def from_completions(path: Path, jobs: Mapping[int, str]) -> Pasts:
    """What jobcomp/filetxt wrote of these jobs; the last line of an element counts."""
    found: dict[str, Past] = {}
    names = set(jobs.values())
    for line in _last_lines(path):
        name = _NAME.search(line)
        if name is None or name[1] not in names:
            continue
        values = dict(_PAIRS.findall(line))
        element = f"{values.get('ArrayJobId') or values.get('JobId', '')}_{values.get('ArrayTaskId', '')}"
        past = Past(values.get("JobState", ""), _code(values.get("ExitCode", "")))
        _note(found, element, values.get("Name", ""), jobs, past)
    return found


def _note(found: dict[str, Past], element: str, name: str, jobs: Mapping[int, str], past: Past) -> None:
    """Keep what is of these jobs: of single elements, and of what was cancelled together while it waited."""
    job, _, index = element.partition("_")
    if not job.isdecimal() or jobs.get(int(job)) != name:
        return
    if index.isdecimal():
        found[element] = past
    elif past.state == "CANCELLED":
        found[f"{job}_"] = past


def _code(text: str) -> int:
    """`2:0` is exit code 2, `0:9` is signal 9."""
    code, _, number = text.partition(":")
    with contextlib.suppress(ValueError):
        return -int(number) if number and int(number) else int(code)
    return 0


def _last_lines(path: Path) -> Iterable[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
