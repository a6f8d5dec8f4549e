"""What a submission that failed means: never here, not now, or nobody knows.

Pure: reads the words of sbatch, which has but one exit code for everything.
"""

import re
from enum import Enum, auto

from swarmd.gateways.slurm.programs import Answer


class Failure(Enum):
    """What became of a batch that sbatch did not report as submitted."""

    NEVER = auto()
    """Slurm will never take it as it is."""
    NOT_NOW = auto()
    """Nothing was submitted; it may be taken later."""
    TOO_MANY = auto()
    """Nothing was submitted; fewer tasks may be taken now."""
    TOO_LARGE_ARRAY = auto()
    """Nothing was submitted; a smaller array will be taken."""
    UNKNOWN = auto()
    """It may have been submitted."""


_MEANINGS: dict[Failure, tuple[str, ...]] = {
    Failure.UNKNOWN: (
        *("socket timed out", "zero bytes were transmitted", "unexpected message", "insane message", "timed out"),
        *("connection (reset|closed)", "send failure", "receive failure", "transmission", "aborted", "i/o error"),
        "protocol authentication error",
    ),
    Failure.TOO_LARGE_ARRAY: ("invalid job array specification",),
    Failure.TOO_MANY: (
        *("submit limit", "maxsubmit", "max_?jobs", "maxjobcount", "slurm temporarily unable to accept job"),
        *("resource temporarily unavailable", "job limit", "violates accounting"),
    ),
    Failure.NOT_NOW: (
        *("unable to contact slurm controller", "connection refused", "in standby"),
        *("establish a configuration", "process configuration file", "cannot stat file"),
        *("partition .*(down|inactive|drain)", "requested partition configuration not available now", "busy"),
        *("authentication", "munge", "try again", "temporarily", "unspecified error"),
    ),
    Failure.NEVER: (
        *("invalid", "unrecognized", "ambiguous", "requires an argument", "doesn't allow an argument"),
        *("mutually exclusive", "not a? ?valid", "must be", "need to specify"),
        *("not available", "can ?not be satisfied", "not permitted", "access.*denied", "permission denied", "exceeds"),
        *("too (large|long)", "more processors", "not supported", "illegal", "unable to (parse|process)", "disabled"),
    ),
}
"""Words of sbatch, in this order: what may have been submitted is never taken for refused."""

_PATTERNS = {failure: re.compile("|".join(words), re.IGNORECASE) for failure, words in _MEANINGS.items()}


def failure_of(answer: Answer) -> Failure:
    """What it means that sbatch failed with this answer. Words that nobody knows: it may have been submitted."""
    if not answer.is_started:
        return Failure.NOT_NOW
    if answer.code is None or answer.code < 0:
        return Failure.UNKNOWN
    return next((failure for failure, pattern in _PATTERNS.items() if pattern.search(answer.err)), Failure.UNKNOWN)


def says_there_is_no_room(answer: Answer) -> bool:
    """Whether fewer tasks might have been taken, whatever became of these: sbatch tries for minutes by itself."""
    return bool(_PATTERNS[Failure.TOO_MANY].search(answer.err))
