"""How the daemon writes its log: on standard error; for people on a terminal, JSON lines otherwise.

One format for everything: structlog's loggers, and those of the standard library that gRPC, asyncio and others use.
Lines say which swarm and batch they are about, hold no secret that can be told as such, and are one line each,
whatever a user's text has in it. The latest are kept in memory for `swarmd debug dump`.
"""

import contextlib
import logging
import os
import re
import sys
import traceback
from collections import deque
from collections.abc import Iterable
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from swarmd.observing.subject import BATCH, SWARM

KEPT_LINES = 500
LONGEST_KEPT_LINE = 4096
LONGEST_VALUE = 20_000
REDACTED = "[redacted]"
SECRET_KEYS = frozenset({"authorization", "token", "password", "secret", "cookie"})
SHORTEST_SECRET = 8
"""A shorter value of SWARMD_TOKEN is no token, and would make other words unreadable."""

GRPC_LOGGER = "grpc._cython.cygrpc"
VANISHED = "ExecuteBatchError"

_VALUE = r"(?!\[redacted\])[^\s\"',;)\]}]+"
_GAP = r"(?:\s++|%20|\+)"
_BEARER = re.compile(rf"(?i)\b(bearer){_GAP}{_VALUE}")
_AUTHORIZATION = re.compile(
    rf"(?i)(authorization['\"]?+\s*+[:=,]\s*+(?:b(?=['\"]))?+['\"]?+(?:bearer{_GAP})?+){_VALUE}"
)
_OUR_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])(?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
"""What `tokens.py` makes: 43 characters, large and small letters among them."""
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TRACE = "exception"

_recent: deque[str] = deque(maxlen=KEPT_LINES)


def configure_logging(log_format: str, level: str) -> None:
    """Set the log up once, at the start. `log_format`: auto, console or json."""
    number = logging.getLevelNamesMapping()[level.upper()]
    plain = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    file = cast("TextIO", _Unfailing(sys.stderr))
    common: list[Processor] = [
        about,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.StackInfoRenderer(),
        told_exception,
        Redaction(os.environ.get("SWARMD_TOKEN", "")),
    ]
    renderer = _on_console(colors=sys.stderr.isatty()) if plain else structlog.processors.JSONRenderer(default=repr)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[*common, *([escaped] if plain else []), renderer, keep],
        logger_factory=structlog.WriteLoggerFactory(file=file),
        cache_logger_on_first_use=True,
    )
    _take_in_other_loggers(common, [*([escaped] if plain else []), renderer, keep], file, number)


def _take_in_other_loggers(common: Iterable[Processor], last: Iterable[Processor], file: TextIO, number: int) -> None:
    """Lines of the standard library's loggers look the same; those of others only from warnings on."""
    handler = logging.StreamHandler(file)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow=()), named],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *common, *last],
        )
    )
    handler.addFilter(is_news)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("swarmd").setLevel(number)
    logging.captureWarnings(capture=True)


def recent_lines() -> list[str]:
    """The latest lines, oldest first, without colours."""
    return [_COLOURS.sub("", line) for line in tuple(_recent)]


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of somebody else's logger is worth having.

    A client that vanishes while it is answered is none: grpcio tells it as an error, with a trace, as often as a caller
    likes.
    """
    error = record.exc_info[0] if record.exc_info else None
    return not (record.name == GRPC_LOGGER and error is not None and error.__name__ == VANISHED)


# -- processors --------------------------------------------------------------------------------------------------------


def about(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add the swarm and the batch that the work under way is about, unless the line says so itself."""
    del logger, method
    for key, known in (("swarm", SWARM), ("batch", BATCH)):
        value = known.get()
        if value:
            event.setdefault(key, value)
    return event


def named(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add which of the standard library's loggers said it, and the level it said it with."""
    del method
    record = event.get("_record")
    event["logger"] = record.name if isinstance(record, logging.LogRecord) else str(getattr(logger, "name", ""))
    return event


def told_exception(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Put an exception into words, without the values of variables: those may be secrets."""
    del logger, method
    given = event.pop("exc_info", None)
    if given:
        error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exception()
        if isinstance(error, BaseException):
            event[_TRACE] = "".join(traceback.format_exception(error)).rstrip()
    return event


class Redaction:
    """Takes out what looks like a token, wherever in a line it stands."""

    def __init__(self, secret: str = "") -> None:
        """`secret`: a value that is to be shown nowhere."""
        self._secret = secret if len(secret) >= SHORTEST_SECRET else ""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        del logger, method
        for key, value in event.items():
            if key.lower() in SECRET_KEYS and not isinstance(value, bool):
                event[key] = REDACTED
            elif key not in ("_record", "_from_structlog"):
                event[key] = self._cleaned(value)
        return event

    def text(self, text: str) -> str:
        """The same for one text."""
        if self._secret:
            text = text.replace(self._secret, REDACTED)
        text = _BEARER.sub(rf"\1 {REDACTED}", text)
        text = _AUTHORIZATION.sub(rf"\1{REDACTED}", text)
        return _OUR_TOKEN.sub(REDACTED, text)

    def _cleaned(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, list | tuple):
            return [self._cleaned(each) for each in value]
        if isinstance(value, dict):
            return {
                str(key): REDACTED if str(key).lower() in SECRET_KEYS else self._cleaned(each)
                for key, each in value.items()
            }
        text = value if isinstance(value, str) else repr(value) if isinstance(value, bytes) else str(value)
        if len(text) > LONGEST_VALUE:
            text = f"{text[:LONGEST_VALUE]} ... ({len(text)} characters)"
        return self.text(text)


def escaped(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Show control characters instead of sending them: nobody makes up lines, or plays with the terminal.

    Traces keep their lines, each moved to the right, where no line of the log begins.
    """
    del logger, method
    for key, value in event.items():
        if key == _TRACE or key == "stack":
            event[key] = "\n".join(f"    {_shown(line)}" for line in str(value).split("\n"))
        elif isinstance(value, str):
            event[key] = _shown(value)
        elif isinstance(value, list | dict):
            event[key] = _shown(str(value))
    return event


def keep(logger: WrappedLogger, method: str, line: Any) -> str:
    """Remember the line for a while."""
    del logger, method
    text = str(line)
    _recent.append(text if len(text) <= LONGEST_KEPT_LINE else f"{text[:LONGEST_KEPT_LINE]} ...")
    return text


def _shown(text: str) -> str:
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _on_console(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


class _Unfailing:
    """A file whose loss stops nobody: the disk with the log may be full, or its reader gone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.flush()
