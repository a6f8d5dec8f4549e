"""swarmd journal, and what status tells of batches without news and of damaged swarms."""

import signal
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import scheduler_service_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.cli.conftest import Answer, swarmd_process
from tests.daemon import DaemonProcess, private_environment, running, short_home


@pytest.fixture(scope="module")
def killed():
    """The home of a daemon that was killed: `handed` has a batch that was handed out, `other` has nothing."""
    with short_home() as home:
        with running(home=home) as daemon:
            hand_out(daemon)
            answers = [swarmd_process("status", *which, **daemon.environment) for which in ([], ["handed"])]
            daemon.signal(signal.SIGKILL)
            daemon.wait()
        yield home, answers


def hand_out(daemon: DaemonProcess) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        swarms, scheduler = SwarmServiceStub(channel), SchedulerServiceStub(channel)
        for name in ("handed", "other"):
            swarm = swarm_pb2.Swarm(swarm_id=name, gateway="pull")
            swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm))
        load = swarm_service_pb2.AddTasksRequest(swarm_id="handed")
        load.arrays.add(array_id=1, command="true")
        load.task_resources.add(task_resources_id=1)
        load.tasks.extend(task_pb2.Task(task_id=number, array_id=1, task_resources_id=1) for number in range(1, 8))
        swarms.AddTasks(iter([load]))
        scheduler.Tick(scheduler_service_pb2.TickRequest(swarm_id="handed", request_id="lost"))


def journal(home: Path, *arguments: object) -> Answer:
    return swarmd_process("journal", *arguments, **private_environment(home))


def test_status_lists_a_batch_that_was_handed_out_without_news_with_its_age(killed):
    _, answers = killed
    for answer in answers:
        (line,) = [line for line in answer.out.splitlines() if "handed out without news" in line]
        assert line.startswith("handed-"), "the batch's id begins with its swarm's"
        assert line.split()[1] == "7"
        assert line.endswith("for request lost")
        assert " s " in line


def test_every_journal_is_checked_and_nothing_is_changed(killed):
    home, _ = killed
    before = files_of(home)
    answer = journal(home, "check")
    assert answer.code == 0
    assert [line.split(":")[:2] for line in answer.out.splitlines()] == [["handed", " whole"], ["other", " whole"]]
    assert "7 tasks" in answer.out
    one = journal(home, "check", "handed", "--json").json["swarms"]
    assert [(each["swarmId"], each["tasks"], each["problem"]) for each in one] == [("handed", 7, "")]
    assert files_of(home) == before


def test_an_export_is_imported_again(killed, tmp_path):
    home, _ = killed
    assert journal(home, "export", "handed", "-o", tmp_path / "handed.jsonl").code == 0
    assert journal(home, "export", "handed").out == (tmp_path / "handed.jsonl").read_text()
    refused = journal(home, "import", tmp_path / "handed.jsonl")
    assert refused.code == 2
    assert "--replace" in refused.err
    with short_home() as elsewhere:
        (elsewhere / "state" / "swarmd").mkdir()
        taken = journal(elsewhere, "import", tmp_path / "handed.jsonl")
        assert (taken.code, taken.err) == (0, "")
        assert "handed is there again" in taken.out
        with running(home=elsewhere) as daemon:
            status = swarmd_process("status", "handed", **daemon.environment)
            assert "7 tasks: 7 queued" in status.out
            assert "handed out without news" in status.out


def test_what_is_there_is_moved_out_of_the_way(killed, tmp_path):
    home, _ = killed
    assert journal(home, "export", "other", "-o", tmp_path / "other.jsonl").code == 0
    replaced = journal(home, "import", "--replace", tmp_path / "other.jsonl")
    assert replaced.code == 0
    assert [path.name.split("-")[0] for path in (home / "state" / "swarmd" / "replaced").iterdir()] == ["other"]
    assert journal(home, "check", "other").code == 0


def test_wrong_names_and_places_are_told(killed, tmp_path):
    home, _ = killed
    for arguments, said in [
        (("check", "nobody"), "there is no 'nobody'"),
        (("export", "../handed"), "can be no swarm's id"),
        (("check", "--state-dir", tmp_path / "no"), "there is no state directory"),
        (("import", tmp_path / "no"), "No such file"),
    ]:
        answer = journal(home, *arguments)
        assert answer.code in (2, 4)
        assert said in answer.err
        assert answer.err.count("\n") == 1


def test_a_daemon_has_its_journals_to_itself():
    with running() as daemon:
        answer = journal(daemon.home, "check")
        assert answer.code == 2
        assert f"a daemon (process {daemon.process.pid}) has" in answer.err


def test_a_damaged_swarm_is_listed_with_what_is_wrong_and_what_can_be_done():
    with short_home() as home:
        with running(home=home) as daemon:
            hand_out(daemon)
            daemon.stop()
        file = home / "state" / "swarmd" / "swarms" / "handed" / "records-000001.db"
        file.write_bytes(b"no database")
        checked = journal(home, "check")
        assert checked.code == 1
        assert f"handed: damaged: {file} is damaged" in checked.out
        with running(home=home) as daemon:
            status = swarmd_process("status", **daemon.environment)
            assert status.code == 0
            assert "handed is damaged and was set aside" in status.out
            assert "swarmd journal check" in status.out
            assert [line.split()[0] for line in status.out.splitlines()[:2]] == ["SWARM", "other"]
            assert swarmd_process("status", "handed", **daemon.environment).code == 4


def files_of(home: Path) -> dict[str, bytes]:
    swarms = home / "state" / "swarmd" / "swarms"
    return {str(path): path.read_bytes() for path in swarms.rglob("*") if path.is_file()}
