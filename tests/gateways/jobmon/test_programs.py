"""Which Python has Jobmon's distributor, what is told of one that has not, and a log that does not grow."""

import asyncio
import os
import signal
import stat
import subprocess
import sys

import pytest

from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.jobmon.distributor import (
    MARK,
    MOST_LOG_BYTES,
    Distributor,
    Mark,
    end_all,
    end_forks,
    last_line,
    opened,
    says_that_it_lives,
    shorten,
)
from swarmd.gateways.jobmon.gateway import JobmonGateway
from swarmd.gateways.jobmon.programs import NoProgramError, Program, find_program
from swarmd.gateways.jobmon.settings import RunOptions, read_options
from tests.gateways.recording import SWARM, eventually

RIGHT = {"server": "http://h:1", "workflow_run_id": "1", "workflow_id": "1"}


@pytest.fixture
def folder(tmp_path):
    """Below it, `with/python3` has the module and `without/python3` has not."""
    package = tmp_path / "packages" / "jobmon" / "distributor"
    package.mkdir(parents=True)
    (package / "cli.py").touch()
    for name, packages in (("with", tmp_path / "packages"), ("without", tmp_path)):
        (tmp_path / name).mkdir()
        python = tmp_path / name / "python3"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
    return tmp_path


async def test_the_python_that_is_named_is_taken(folder):
    python = str(folder / "with" / "python3")
    program = await find_program(python, "/nowhere")
    assert program == Program((python, "-m", "jobmon.distributor.cli"))
    assert program.folder == str(folder / "with")
    assert (await find_program("python3", str(folder / "with"))).arguments[0] == python


async def test_one_that_is_named_and_has_it_not_is_told_and_no_other_taken(folder):
    with pytest.raises(NoProgramError, match=r"distributor_python: there is no program 'python9'"):
        await find_program("python9", str(folder / "with"))
    with pytest.raises(NoProgramError, match=r"without/python3 has no jobmon.distributor.cli; install jobmon-core"):
        await find_program(str(folder / "without" / "python3"), str(folder / "with"))


async def test_without_a_name_it_is_looked_for_on_the_path(folder):
    assert (await find_program("", str(folder / "with"))).arguments[0] == str(folder / "with" / "python3")
    with pytest.raises(NoProgramError, match="say where one is: distributor_python"):
        await find_program("", str(folder / "without"))
    script = folder / "without" / "jobmon_distributor"
    script.touch(mode=0o755)
    assert await find_program("", str(folder / "without")) == Program((str(script),))


def test_a_cluster_that_would_be_an_option_is_refused():
    with pytest.raises(InvalidInputError, match=r"\[distributor_cluster\]: '--help' is no name of a cluster"):
        read_options({**RIGHT, "distributor_cluster": "--help"})
    options = RunOptions("http://h:1", 1, 1, distributor_cluster="slurm")
    assert read_options(options.as_options()) == options


def test_the_log_is_private_and_does_not_grow_for_ever(tmp_path):
    log = tmp_path / "log"
    assert last_line(log) == ""
    assert not says_that_it_lives(log)
    with opened(log) as descriptor:
        os.write(descriptor, b"a warning\nALIVEERROR: no such thing\nSHUTDOWN\n")
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        assert last_line(log) == "ERROR: no such thing"
        assert says_that_it_lives(log)
        shorten(log)
        assert log.stat().st_size
        os.write(descriptor, b"x" * MOST_LOG_BYTES)
        shorten(log)
        os.write(descriptor, b"and on")
        assert log.read_bytes() == b"and on"
    shorten(tmp_path / "none")


def test_a_log_in_the_place_of_which_there_is_a_link_is_not_written(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), opened(tmp_path / "log"):
        pass


# -- processes -----------------------------------------------------------------------------------------------------

RUN = 12345
SERVER = "http://127.0.0.1:9"


@pytest.fixture
def left_over():
    """A process like the distributor that an earlier daemon has started."""
    program = "import time; time.sleep(300)"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--workflow_run_id", str(RUN)],
        env={**os.environ, MARK: Mark(SERVER, RUN).value},
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


async def found(mark: Mark) -> Distributor:
    async with asyncio.timeout(30):
        while (distributor := Distributor.found(mark)) is None:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)
    return distributor


async def test_it_is_known_by_its_server_and_run(left_over):
    distributor = await found(Mark(SERVER, RUN))
    assert distributor.pid == left_over.pid
    assert distributor.is_alive()
    assert Distributor.found(Mark(SERVER, RUN + 1)) is None
    assert Distributor.found(Mark("http://127.0.0.1:8", RUN)) is None
    left_over.kill()
    left_over.wait()
    assert not distributor.is_alive()
    assert distributor.in_words() == "ended"
    distributor.ask_to_end()


async def test_a_swarm_that_goes_before_its_run_could_be_taken_up_takes_the_distributor_along(
    left_over, monkeypatch, tmp_path
):
    monkeypatch.setattr("swarmd.gateways.jobmon.session.PATIENCE_SECONDS", 0.1)
    await found(Mark(SERVER, RUN))
    gateway = JobmonGateway(folder=tmp_path)
    await gateway.start(lambda swarm_id, update: None)
    options = {"server": SERVER, "workflow_run_id": str(RUN), "workflow_id": "1", "distributor_cluster": "sequential"}
    with pytest.raises(UnavailableError):
        await gateway.add_swarm(SwarmInfo(SWARM, token="t", options=options))
    assert left_over.poll() is None
    ended = asyncio.create_task(asyncio.to_thread(left_over.wait))  # it is a child of this process
    await gateway.remove_swarm(SWARM)
    async with asyncio.timeout(30):
        assert await ended == -signal.SIGTERM
    assert len(list(tmp_path.glob("*.left"))) == 1, "and the run is stopped when its server answers"
    await gateway.close()


async def test_what_is_not_a_distributor_is_never_taken_for_one(tmp_path):
    """A task of it has the mark, too, and may lead a group of its own."""
    mark = Mark(SERVER, RUN + 2)
    environment = {**os.environ, MARK: mark.value}
    process = subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True)  # noqa: ASYNC220
    try:
        await eventually(lambda: [pid for pid, _ in mark.processes()] == [process.pid])
        assert Distributor.found(mark) is None
        end_forks(mark)
        assert process.poll() is None
        end_all(mark, [process.pid])
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
