"""The distributor that is kept for a run, here a program that does nothing; what ends it, and when."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.jobmon.distributor import Mark, end_all, says_that_it_lives
from swarmd.gateways.jobmon.keeping import DistributorKeeper
from swarmd.gateways.jobmon.settings import JobmonSettings, RunOptions
from tests.gateways.recording import SWARM, eventually

PROGRAM = "import sys, time; sys.stderr.write('ALIVE'); sys.stderr.flush(); time.sleep(600)"


class NoLeftovers:
    """Those of a run at a server that takes long to say how many instances are to be killed."""

    async def look(self, now: float) -> None:
        """There are none."""

    async def clear(self, waited: float) -> int:
        return 0

    async def count_killed(self) -> int:
        await asyncio.sleep(0.5)
        return 0


class Kept:
    """A keeper and the run that it is for."""

    def __init__(self, folder: Path) -> None:
        package = folder / "jobmon" / "distributor"
        package.mkdir(parents=True)
        (package / "cli.py").write_text(PROGRAM)
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.status = "B"
        options = RunOptions(f"http://{folder.name}.invalid", 1, 1, distributor_cluster="dummy")
        settings = JobmonSettings(distributor_python=str(python), distributor_pass_seconds=1)
        self.mark = Mark(options.url, 1)
        self.folder = folder / "logs"
        self.working_directory = folder / "work"
        self.working_directory.mkdir()
        self.keeper = DistributorKeeper(
            SwarmInfo(SWARM, token="durable", working_directory=folder / "work"),
            options,
            settings,
            self.folder,
            status=lambda: self.status,
            leftovers=NoLeftovers(),  # type: ignore[arg-type]
        )

    @property
    def logs(self) -> list[Path]:
        return list(self.folder.glob("distributor-*"))

    @property
    def processes(self) -> list[int]:
        return [pid for pid, _ in self.mark.processes()]

    def hear(self, status: str) -> None:
        self.status = status
        self.keeper.look()


@pytest_asyncio.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    end_all(kept.mark, kept.processes)


async def running(kept: Kept) -> "asyncio.Task[None]":
    await kept.keeper.prepare(was_bound=False)
    task = asyncio.create_task(kept.keeper.run())
    await eventually(lambda: any(map(says_that_it_lives, kept.logs)))
    kept.hear("R")
    return task


async def closed(kept: Kept, task: "asyncio.Task[None]") -> None:
    """As the session does it."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await kept.keeper.close()


@pytest.mark.parametrize("status", ["D", "E"])
async def test_a_daemon_that_ends_just_after_the_run_leaves_no_distributor(kept, status):
    """Nobody may come back for it: the run is over."""
    task = await running(kept)
    kept.hear(status)
    await asyncio.sleep(0)
    await closed(kept, task)
    assert kept.processes == []
    assert kept.logs == []


async def test_a_daemon_that_ends_before_the_run_leaves_the_distributor(kept):
    task = await running(kept)
    await closed(kept, task)
    assert len(kept.processes) == 1
    assert len(kept.logs) == 1


async def test_one_that_could_not_be_started_leaves_the_run_to_a_distributor_of_the_users(kept):
    """A second one would run every task twice."""
    kept.working_directory.rmdir()
    await kept.keeper.prepare(was_bound=False)
    task = asyncio.create_task(kept.keeper.run())
    await eventually(lambda: "cannot be started" in kept.keeper.trouble)
    for status in "IOR":
        kept.hear(status)
    kept.working_directory.mkdir()
    async with asyncio.timeout(60):
        await task
    assert kept.processes == kept.logs == []
    assert kept.keeper.trouble == ""
    assert not kept.keeper.has_begun


async def test_one_that_could_not_be_started_is_when_it_can_be(kept):
    kept.working_directory.rmdir()
    await kept.keeper.prepare(was_bound=False)
    task = asyncio.create_task(kept.keeper.run())
    await eventually(lambda: "cannot be started" in kept.keeper.trouble)
    kept.working_directory.mkdir()
    await eventually(lambda: any(map(says_that_it_lives, kept.logs)))
    await eventually(lambda: not kept.keeper.trouble)
    kept.hear("S")
    async with asyncio.timeout(60):
        await task
    assert kept.processes == kept.logs == []


async def test_a_log_that_cannot_be_removed_holds_up_nobody(kept, caplog):
    task = await running(kept)
    (path,) = kept.logs
    path.unlink()
    path.mkdir()
    kept.hear("D")
    async with asyncio.timeout(60):
        await task
    await kept.keeper.close()
    assert kept.processes == []
    assert "cannot be removed" in caplog.text
