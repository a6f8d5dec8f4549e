"""Where Jobmon's distributor is on this machine: a Python that has it, or its own script, and how it is started."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

CHECK_SECONDS = 30.0
SCRIPT = "jobmon_distributor"
PYTHONS = ("python3", "python")
MODULE = "jobmon.distributor.cli"
_HAS_IT = f"import importlib.util as u; raise SystemExit(u.find_spec({MODULE!r}) is None)"


class NoProgramError(Exception):
    """There is no distributor here; why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Program:
    """How Jobmon's distributor is called."""

    arguments: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where it finds what belongs to it: first on its PATH."""
        return str(Path(self.arguments[0]).parent)


async def find_program(python: str, path: str) -> Program:
    """The distributor of this Python; without one the first that is found here, or in `path`. Raises NoProgramError."""
    if python:
        found = await asyncio.to_thread(shutil.which, python, path=path)
        if found is None:
            raise NoProgramError(f"[gateways.jobmon] distributor_python: there is no program {python!r}")
        if not await _has_it(found):
            message = f"[gateways.jobmon] distributor_python: {found} has no {MODULE}; install jobmon-core for it"
            raise NoProgramError(message)
        return _of_python(found)
    if await asyncio.to_thread(_is_ours):
        return _of_python(sys.executable)
    script = await asyncio.to_thread(shutil.which, SCRIPT, path=path)
    if script is not None:
        return Program((script,))
    for candidate in await asyncio.to_thread(lambda: list(_pythons(path))):
        if await _has_it(candidate):
            return _of_python(candidate)
    message = (
        f"no Python that has Jobmon was found: neither {sys.executable} nor what PATH names has the module {MODULE}; "
        "say where one is: distributor_python in [gateways.jobmon]"
    )
    raise NoProgramError(message)


def _of_python(python: str) -> Program:
    return Program((python, "-m", MODULE))


def _is_ours() -> bool:
    try:
        return find_spec("jobmon") is not None and find_spec(MODULE) is not None
    except (ImportError, ValueError):
        return False


def _pythons(path: str) -> Iterator[str]:
    for name in PYTHONS:
        found = shutil.which(name, path=path)
        if found is not None and found != sys.executable:
            yield found


async def _has_it(python: str) -> bool:
    """Whether this Python has Jobmon's distributor: it says so itself."""
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            "-c",
            _HAS_IT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=os.sep,
            start_new_session=True,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
