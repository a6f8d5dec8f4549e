"""Points at which a test may make the daemon die. In a daemon that no test started, reaching one does nothing.

There is no setting for it: only a program that imports this module and calls `install` can put something there.
"""

from collections.abc import Callable

_hooks: list[Callable[[str], None]] = []


def install(hook: Callable[[str], None]) -> None:
    """Call this whenever a point is reached, from whatever thread reaches it."""
    _hooks.append(hook)


def reach(point: str) -> None:
    """Tell whoever wants to know that this point is reached."""
    for hook in _hooks:
        hook(point)
