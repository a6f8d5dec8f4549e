"""Which Python has Jobmon's distributor, what is told of one that has not, and a log that does not grow."""

import os
import stat
import sys

import pytest

from swarmd.core.errors import InvalidInputError
from swarmd.gateways.jobmon.distributor import MOST_LOG_BYTES, last_line, opened, says_that_it_lives, shorten
from swarmd.gateways.jobmon.programs import NoProgramError, Program, find_program
from swarmd.gateways.jobmon.settings import RunOptions, read_options

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
