"""The guardian: the parent of the launcher, which does nothing but wait for it.

When the launcher is killed, its children become the guardian's (PR_SET_CHILD_SUBREAPER, prctl(2)), with their exit
codes. It finds in the ledger which task each of them is, and is their launcher from then on, until the last of them has
ended: for the daemon, over a stream of its own, and for the status files.
"""

import os
import sys
import time
from contextlib import suppress

from .children import Child, Stat, stat_of
from .files import NOT_BEGUN, first_line, mark_of, opened_again, write_at
from .ledger import Entry, Ledger
from .protocol import BROKEN, KNOWN, READY, VERSION, framed
from .starting import Launcher, ignore_signals, write_all

PR_SET_CHILD_SUBREAPER = 36
LOOKS, LOOK_SECONDS = 30, 0.01
"""How often, and how far apart, it is looked for what was just being started."""
MOST_LOOKS = 1000
"""The same while there is a process that has no program yet: from a slow disk that takes long to come."""


def main() -> None:
    """Serve the daemon at the other end of standard input.

    The arguments: the id of this boot of the machine, and the descriptor of a second stream to the daemon; without that
    there is no guardian.
    """
    boot, guard = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else -1
    _leave_session()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in (0, 1, 2, guard):
            with suppress(OSError):  # what whoever started the daemon left open is not for tasks
                os.close(int(name))
    daemon = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    defaults = ignore_signals()
    ledger, launcher = _forked(guard)
    if guard >= 0:
        os.close(daemon if launcher else guard)
    if not launcher:
        served = Launcher(daemon, mark_of(boot, os.getpid()), ledger, defaults)
        with suppress(OSError):
            os.write(daemon, framed([(READY, 0, VERSION)]))
        _serve(daemon, served)
    elif not _ends_by_itself(launcher):
        _set_subreaper(on=False)  # what tasks leave behind from now on is not ours
        mark = mark_of(boot, launcher)
        _serve(guard, _successor(Launcher(guard, mark, ledger, defaults), ledger, mark))


def _serve(daemon: int, launcher: Launcher) -> None:
    try:
        launcher.run()
    except BaseException:
        import traceback

        with suppress(OSError):
            write_all(daemon, framed([(BROKEN, traceback.format_exc())]))
        raise


# -- while the launcher is there ---------------------------------------------------------------------------------------


def _forked(guard: int) -> tuple[Ledger, int]:
    """The ledger, and the process of the launcher: 0 in itself, and where there is to be no other."""
    if guard >= 0 and _set_subreaper(on=True):
        try:
            ledger = Ledger.shared()
            launcher = os.fork()
        except OSError:  # no room for two
            _set_subreaper(on=False)
            return Ledger(None), 0
        if not launcher:
            os.setsid()
        return ledger, launcher
    return Ledger(None), 0


def _ends_by_itself(launcher: int) -> bool:
    """Wait for it, and for what tasks have left behind."""
    while True:
        some = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        # When it has ended, some may be one of its children.
        over = os.waitid(os.P_PID, launcher, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if over is not None:
            os.waitpid(launcher, 0)
            return over.si_code == os.CLD_EXITED and not over.si_status
        if some is not None:
            os.waitpid(some.si_pid, 0)


def _set_subreaper(*, on: bool) -> bool:
    try:
        import ctypes

        return not ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return False


def _leave_session() -> None:
    if os.getpgrp() != os.getpid():
        os.setsid()


# -- when it has been killed -------------------------------------------------------------------------------------------


def _successor(launcher: Launcher, ledger: Ledger, mark: bytes) -> Launcher:
    """A launcher that looks after what the killed one had started."""
    entries, is_all = ledger.entries(), ledger.is_complete
    known = {entry.pid for entry in entries}
    for entry in entries:
        pid = entry.pid or _just_started(entry, known)
        if pid and _is_ours(pid):
            ledger.started(entry.place, pid)
            launcher.take_over(_child(entry, pid, mark))
        elif pid is not None:
            if not entry.pid and entry.status is not None:
                _unclaim(entry.status, mark)
            ledger.give_up(entry.place)
        else:
            is_all = False
    for pid in _children_since(0, {child.pid for child in launcher.children}):
        launcher.adopt_stranger(pid)
    launcher.say((KNOWN, 0, is_all))
    return launcher


def _child(entry: Entry, pid: int, mark: bytes) -> Child:
    child = Child(entry.key, pid, entry.place)
    if entry.status is not None:
        child.survives = True
        child.status = opened_again(entry.status, first_line(pid, child.ticks, mark), mark)
    return child


def _is_ours(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _just_started(entry: Entry, known: set[int]) -> int | None:
    """As which process the launcher started a task just before its end; 0: it had not come to that; None: unclear."""
    children: dict[int, Stat] = {}
    coming: list[int] = []
    for look in range(MOST_LOOKS):
        children = _children_since(entry.since, known)
        for pid in [pid for pid, stat in children.items() if stat.is_dead and not stat.has_program]:
            os.waitpid(pid, 0)  # there was no such program, and another was to be tried
            del children[pid]
        if not children:
            return 0
        leaders = [pid for pid, stat in children.items() if stat.group == pid and stat.has_program]
        found = [pid for pid in leaders if _writes_to(pid, entry.output)]
        if found:
            return found[0]
        if all(stat.is_dead for stat in children.values()):
            return leaders[0] if len(leaders) == 1 else None
        coming = [pid for pid, stat in children.items() if not stat.has_program and _is_as_we_are(pid)]
        if look >= LOOKS and not coming:
            return None
        time.sleep(LOOK_SECONDS)
    return coming[0]


def _children_since(ticks: int, known: set[int]) -> dict[int, Stat]:
    """Our own, those that are in the ledger aside."""
    found = {}
    for pid in _children() - known:
        stat = stat_of(pid) or Stat(is_dead=False, parent=os.getpid(), group=0, has_program=True, ticks=ticks)
        if stat.ticks >= ticks - 1:
            found[pid] = stat
    return found


def _children() -> set[int]:
    """Also those that are hidden, unless the kernel was built without the list."""
    try:
        with open("/proc/thread-self/children", "rb") as file:  # noqa: PTH123
            return {int(pid) for pid in file.read().split()}
    except OSError:
        stats = {int(name): stat_of(int(name)) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
        return {pid for pid, stat in stats.items() if stat and stat.parent == os.getpid()}


def _is_as_we_are(pid: int) -> bool:
    """Whether it was forked by a launcher and has become nothing else, unlike what tasks have forked."""
    try:
        with open(b"/proc/%d/cmdline" % pid, "rb") as its, open("/proc/self/cmdline", "rb") as ours:  # noqa: PTH123
            return its.read() == ours.read()
    except OSError:
        return False


def _writes_to(pid: int, output: bytes) -> bool:
    """Whether its output is the task's: nothing else has that open so early."""
    for descriptor, ending in ((1, b".out"), (2, b".err")):
        with suppress(OSError):
            own = os.stat(b"/proc/%d/fd/%d" % (pid, descriptor))  # noqa: PTH116
            if os.path.samestat(own, os.stat(output + ending)):  # noqa: PTH116
                return True
    return False


def _unclaim(status: bytes, mark: bytes) -> None:
    """Let the status file say so. Only a daemon may take it away: others could mistake that for what a task did."""
    line = first_line(0, 0, mark)
    descriptor = opened_again(status, line, mark)
    if descriptor >= 0:
        with suppress(OSError):
            if os.pread(descriptor, len(line) + 1, 0) == line:
                write_at(descriptor, NOT_BEGUN, 0)
                os.ftruncate(descriptor, len(NOT_BEGUN))
        os.close(descriptor)
