"""The loggers of the daemon's parts: structlog's where that was set up, the standard library's everywhere else.

`swarmd serve` sets structlog up (`logs.py`). A program that has a daemon in its own event loop has its own ideas about
logs; nothing is printed there that it did not ask for, and nothing of it is changed.
"""

import logging
from typing import Any

import structlog

logging.getLogger("swarmd").addHandler(logging.NullHandler())


class _Logger:
    """One name in both worlds; which one counts is decided at each line."""

    def __init__(self, name: str) -> None:
        self._structlog = structlog.get_logger(name)
        self._standard = structlog.wrap_logger(
            logging.getLogger(name),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )

    def __getattr__(self, method: str) -> Any:
        return getattr(self._structlog if structlog.is_configured() else self._standard, method)


def get_logger(name: str) -> Any:
    """The logger of that name, with structlog's way of saying things: `log.info("ready", pid=1)`."""
    return _Logger(name)
