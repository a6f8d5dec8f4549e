"""Sizes and durations as people write them: `4G`, `500M`, `90s`, `1h30m`.

Called by the models of the workflow file. Raises ValueError with a sentence for the author of the file, for a
wrong type too: pydantic takes only that for a finding.
"""

import math
import re

_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT])(?:i?B)?", re.IGNORECASE)
_MIB_OF = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}
_RUNTIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", re.IGNORECASE)
_SECONDS_OF = (86_400, 3_600, 60, 1)

MEMORY_PATTERN = r"^\d+(\.\d+)? ?[KMGTkmgt](i?[Bb])?$"
RUNTIME_PATTERN = r"^(?=.)(\d+[dD])?(\d+[hH])?(\d+[mM])?(\d+(\.\d+)?[sS])?$"

MAX_MEMORY_MIB = (1 << 31) - 1
MAX_RUNTIME_SECONDS = 10 * 365 * 86_400.0


def memory_mib(value: object) -> int:
    """MiB from a number of MiB or a text like `4G`; units are powers of 1024, fractions are rounded up."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a number of MiB or a text like 4G or 500M")  # noqa: TRY004
    mib = value if isinstance(value, int) else _parsed_memory(value)
    if not 0 <= mib <= MAX_MEMORY_MIB:
        raise ValueError(f"must be between 0 and {MAX_MEMORY_MIB} MiB")
    return mib


def _parsed_memory(text: str) -> int:
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is no memory size; write 4G, 500M or a number of MiB")
    return math.ceil(float(match[1]) * _MIB_OF[match[2].upper()])


def runtime_seconds(value: object) -> float:
    """Seconds from a number of seconds or a text like `1h30m`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number of seconds or a text like 90s or 1h30m")  # noqa: TRY004
    seconds = _parsed_runtime(value) if isinstance(value, str) else float(value)
    if not 0 <= seconds <= MAX_RUNTIME_SECONDS:
        raise ValueError("must be between 0 seconds and 10 years")
    return seconds


def _parsed_runtime(text: str) -> float:
    match = _RUNTIME.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"'{text}' is no duration; write 90s, 15m, 1h30m, 2d or a number of seconds")
    return sum(float(count) * seconds for count, seconds in zip(match.groups(), _SECONDS_OF, strict=True) if count)
