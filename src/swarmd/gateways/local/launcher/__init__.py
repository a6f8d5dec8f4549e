"""The launcher: a program that starts the tasks for a daemon, waits for them, and keeps their status files.

It is a process of its own, started by `connection`, so that tasks have a parent that outlives the daemon: when that is
gone, the launcher goes on until the last of its tasks has ended. It is small, and needs nothing but the standard
library, because `__main__` is run as a file; the daemon imports `protocol` alone. `starting` starts tasks and sees them
end; `guardian`, its parent, waits for it, and takes over when it is killed, by what it wrote into the `ledger`.
"""
