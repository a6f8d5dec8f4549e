"""The daemon as a process of this user: found without asking it, and signalled only if it waits for that signal."""

import fcntl
import os
import signal
import socket
import struct
from pathlib import Path

from swarmd.addresses import Address

CONNECT_SECONDS = 10.0


def daemon_at(address: Address) -> int | None:
    """The process that listens at a socket file, as the system says; None for what is none, or nobody's."""
    if address.path is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_SECONDS)
        try:
            connection.connect(str(address.path))
        except OSError:
            return None
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid) if pid and uid == os.getuid() else None


def daemon_of(folder: Path) -> int | None:
    """The process that holds the lock of a state directory."""
    try:
        with (folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read(32).strip()
                return int(text) if text.isdigit() else None
    except OSError:
        pass
    return None


def tell(pid: int, number: signal.Signals) -> bool:
    """Send a signal, but only to a process that waits for it: any other would die of it. Says whether it was sent."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
        if not caught >> (number - 1) & 1:
            return False
        signal.pidfd_send_signal(process, number)
    except (OSError, StopIteration):
        return False
    finally:
        os.close(process)
    return True
