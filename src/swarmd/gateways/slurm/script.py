"""The shell script that Slurm runs for every element of a batch's array, and what its exit codes mean.

It uses POSIX sh and dd, nothing else. The element finds its task by its index. Whoever creates the status file of an
attempt runs its command, and nobody after it: neither a job that Slurm started twice, nor one that was submitted and
given up. The exit code is kept in the status file, and the script ends with it.
"""

from dataclasses import dataclass
from pathlib import Path

RECORD_BYTES = 32
"""Of the index of a batch's file: where a task's block begins and how long it is."""
BLOCK_BYTES = 512
TRIES = 10
"""How many times an element looks for its files, once a second: file systems over networks can be behind."""

NO_FILES = 118
"""The batch's files were not there, or could not be understood; nothing was run."""
NO_DIRECTORY = 119
"""The working directory could not be entered; nothing was run."""
UNWRITABLE = 124
"""Output or status file could not be written; nothing was run."""
TAKEN = 125
"""The status file was there already; nothing was run."""
NOTHING_RUN = frozenset({NO_FILES, NO_DIRECTORY, UNWRITABLE, TAKEN})
"""Codes with which the script ends when it ran nothing. A command may end with them too: the status file tells."""

_SCRIPT = """\
#!/bin/sh
# A batch of swarmd: {batch_id}
umask 077
swarmd_task= swarmd_try=0
until [ -r {tasks} ] && [ -r {environment} ] && [ -d {output} ]; do
swarmd_try=$((swarmd_try + 1))
[ $swarmd_try -gt {tries} ] && exit {no_files}
sleep 1
done
set -- $(dd if={tasks} bs={record} skip=$((SLURM_ARRAY_TASK_ID + {first})) count=1 2>/dev/null)
eval "$(dd if={tasks} bs={block} skip=$1 count=$2 2>/dev/null)"
[ "$swarmd_task" ] || exit {no_files}
cd {directory} 2>/dev/null || exit {no_directory}
swarmd_start={output}/$swarmd_task.$swarmd_attempt
swarmd_status=$swarmd_start.{token}.status
[ -e "$swarmd_status" ] && exit {taken}
{{ true; }} >>"$swarmd_start.out" || exit {unwritable}
{{ true; }} >>"$swarmd_start.err" || exit {unwritable}
set -C
{{
set +C
echo "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID $SLURM_JOB_ID ${{SLURMD_NODENAME:-?}}" >&9 || exit {unwritable}
(
. {environment}
export SWARM_ARRAY_ID={array_id} SWARM_TASK_ID="$swarmd_task" SWARM_ATTEMPT="$swarmd_attempt"
export SWARM_TASK_NAME="$swarmd_name" PWD
{trace}umask {umask}
set -- "$swarmd_command"
unset swarmd_task swarmd_attempt swarmd_name swarmd_command swarmd_start swarmd_status swarmd_try
eval "set --; $1"
) >"$swarmd_start.out" 2>"$swarmd_start.err" </dev/null 9>&-
set -- $?
echo $1 >&9
exit $1
}} 9>"$swarmd_status"
[ -e "$swarmd_status" ] && exit {taken}
exit {unwritable}
"""


@dataclass(frozen=True, slots=True)
class ScriptPlaces:
    """What the script of one array is told."""

    batch_id: str
    tasks: Path
    """The file with the tasks of the batch."""
    first: int
    """The place in the batch of the array's element 0."""
    array_id: int
    environment: Path
    output: Path
    """The folder for the output of the swarm's array."""
    token: str
    """As it is in the names of status files."""
    directory: str
    umask: int
    traceparent: str = ""
    """The W3C trace context of the call that queued it; empty when nobody traces."""


def batch_script(places: ScriptPlaces) -> str:
    """The script for one array of a batch."""
    return _SCRIPT.format(
        batch_id=places.batch_id if places.batch_id.isprintable() else "",
        tasks=quoted(str(places.tasks)),
        first=places.first,
        array_id=places.array_id,
        environment=quoted(str(places.environment)),
        output=quoted(str(places.output)),
        token=quoted(places.token),
        directory=quoted(places.directory),
        trace=f"export TRACEPARENT={quoted(places.traceparent)}\n" if places.traceparent else "",
        umask=f"{places.umask:o}",
        tries=TRIES,
        record=RECORD_BYTES,
        block=BLOCK_BYTES,
        no_files=NO_FILES,
        no_directory=NO_DIRECTORY,
        unwritable=UNWRITABLE,
        taken=TAKEN,
    )


def quoted(text: str) -> str:
    """A text as one word of the shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def quoted_bytes(text: str) -> bytes:
    """The same as the bytes that a file holds."""
    return quoted(text).encode("utf-8", "surrogateescape")
