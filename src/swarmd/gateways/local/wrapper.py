"""The shell script around the command of a task that survives the daemon: it keeps the status file.

The first to create the file runs the command, and nobody after it, however often and by whomever the attempt is
started. The script uses nothing but what is built into every POSIX shell: it forks once, for the command.
"""

from pathlib import Path

from swarmd.gateways.local.commands import LONGEST_ARGUMENT, SHELL, joined, pieces_of, plain_arguments
from swarmd.gateways.local.procfs import boot_id

TAKEN_CODE = 125
"""The status file was there already: the command was not run. A command may end with this code too; see the file."""
UNWRITABLE_CODE = 124
"""The status file could not be written: the command was not run. Likewise."""

_SCRIPT = f"""\
[ -e "$1" ] && exit {TAKEN_CODE}
read -r SWARMD_STAT </proc/self/stat
swarmd_record() {{ echo "$2 ${{23}} $1"; }}
set -C
{{
set +C
swarmd_record "$2" $SWARMD_STAT >&9 || exit {UNWRITABLE_CODE}
unset SWARMD_STAT
unset -f swarmd_record
umask "$3"
: >/proc/self/fd/1 >/proc/self/fd/2
shift 3
%s 9>&-
set -- $?
echo $1 >&9
exit $1
}} 9>"$1"
[ -e "$1" ] && exit {TAKEN_CODE}
exit {UNWRITABLE_CODE}
"""
"""Its parameters: the status file, the boot, the umask of the command, and the command in words or pieces.

`set -C` makes the shell create the file with O_EXCL. The first line spares the loser a message in the output of the
winner. The output is emptied by the winner alone, for the same reason.
"""

_WORDS = '"$@"'


def wrapped_arguments(status: Path, umask: int, command: str) -> list[bytes]:
    """A command within the script. The script is to be started with a umask that makes its file its owner's."""
    words = plain_arguments(command) if len(command) <= LONGEST_ARGUMENT else None
    if words:
        return _arguments(_WORDS, status, umask, words)
    pieces = pieces_of(command)
    return _arguments(f'(eval "set --; {joined(pieces)}")', status, umask, pieces)


def _arguments(run: str, status: Path, umask: int, parameters: list[bytes]) -> list[bytes]:
    script = (_SCRIPT % run).encode()
    return [SHELL, b"-c", script, SHELL, bytes(status), boot_id().encode(), b"%o" % umask, *parameters]
