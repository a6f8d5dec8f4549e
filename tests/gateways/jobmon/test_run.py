"""The run's life: what the server says of it counts, and what is left of it at the end."""

import asyncio
import ssl
from dataclasses import replace

import pytest
import trustme

from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, Found, OutcomeUnknownError, SwarmInfo
from swarmd.gateways.jobmon import life
from swarmd.gateways.jobmon.failures import NotDoneError
from swarmd.gateways.jobmon.gateway import JobmonGateway
from swarmd.gateways.jobmon.settings import JobmonSettings
from tests.gateways.jobmon.fake import FakeJobmon, Fault
from tests.gateways.recording import SWARM, Record, batch_of, eventually

RESOURCES = TaskResources(1, cluster="fake", queue="null.q")


def batch(*task_ids: int, attempt: int = 1):
    return batch_of(*["true"] * len(task_ids), first_id=task_ids[0], attempt=attempt, resources=RESOURCES)


# -- the beginning -------------------------------------------------------------------------------------------------


async def test_a_run_that_is_linked_is_bound_and_waits_for_its_distributor(fake, drive):
    run = fake.add_run(1, 1, [1], status="L") and fake.runs[1]
    driven = await drive(fake.url)
    assert driven.run_statuses[-1] == run.status == "B"
    with pytest.raises(BatchRefusedError, match="BOUND: it waits for Jobmon's distributor"):
        await driven.gateway.queue_batch(batch(1))
    run.status = "O"  # the distributor is there
    await driven.record.until(lambda: driven.run_statuses[-1] == "R")
    assert run.status == "R"
    assert not (await driven.gateway.queue_batch(batch(1))).refusals


async def test_heartbeats_begin_at_once_and_say_for_how_long_they_hold(fake, drive):
    fake.add_run(1, 1, [1])
    await drive(fake.url, heartbeat_seconds=20, heartbeat_buffer=3)
    assert fake.paths("log_heartbeat") == [{"status": "R", "next_report_increment": 60}]


async def test_it_is_said_since_when_a_server_does_not_answer(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url, heartbeat_seconds=0.1)
    assert driven.gateway.swarm_trouble(SWARM) == ""
    fake.faults["log_heartbeat"] = [Fault(503)] * 1000
    await eventually(lambda: driven.gateway.swarm_trouble(SWARM).startswith("Jobmon's server does not answer since 20"))
    fake.faults.clear()
    await eventually(lambda: driven.gateway.swarm_trouble(SWARM) == "")
    assert driven.gateway.swarm_trouble("another") == ""


async def test_a_run_that_there_is_not_is_refused_with_its_number(fake, drive):
    with pytest.raises(InvalidInputError, match=r"run 5 of workflow 1 cannot be had.*NoResultFound") as raised:
        await drive(fake.url, 5)
    assert raised.value.field == "swarm.gateway_options"


async def test_a_workflow_that_there_is_not_is_refused(fake, drive):
    fake.add_run(1, 1)
    with pytest.raises(InvalidInputError, match="has no workflow 9"):
        await drive(fake.url, 1, 9)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("server", "example.org", "is no URL of a server"),
        ("server", "http://h:x", "is no URL of a server"),
        ("server", "", "is missing"),
        ("workflow_run_id", "one", "is no id"),
        ("workflow_id", "0", "is no id"),
        ("route_prefix", "api", "is no route prefix"),
        ("worfklow_id", "1", "did you mean 'workflow_id'"),
        ("colour", "1", "there are server"),
    ],
)
async def test_wrong_options_are_refused_by_name(drive, name, value, words):
    right = {"server": "http://127.0.0.1:1", "workflow_run_id": "1", "workflow_id": "1"}
    info = replace(SwarmInfo(SWARM), options={**right, name: value})
    with pytest.raises(InvalidInputError, match=words) as raised:
        await JobmonGateway().add_swarm(info)
    assert name in raised.value.message


async def test_a_url_that_cannot_be_called_is_refused(drive):
    with pytest.raises(InvalidInputError, match=r"http://xn--: .*is no URL that can be called"):
        await drive("http://xn--")


async def test_a_workflow_is_not_driven_by_two_swarms(fake, drive):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    other = replace(driven.info, swarm_id="other")
    with pytest.raises(InvalidInputError, match=f"swarm {SWARM} has workflow 1 of .* already; `swarmd watch {SWARM}`"):
        await driven.gateway.add_swarm(other)
    await driven.gateway.add_swarm(driven.info)  # the same again is no other
    run.status = "S"
    await driven.record.until(lambda: driven.run_statuses[-1] == "S")
    await driven.gateway.add_swarm(other)


@pytest.mark.parametrize("end", ["remove_swarm", "close"])
async def test_a_swarm_that_goes_while_its_run_is_taken_up_leaves_nothing_behind(fake, end, tmp_path):
    """A daemon that comes back may wait long for the server; the swarm can be deleted meanwhile."""
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(path, body):
        if "fetch_workflow_metadata" in path:
            held.set()
            await go_on.wait()

    fake.before = hold
    gateway, record = JobmonGateway(JobmonSettings(heartbeat_seconds=0.05), tmp_path), Record()
    await gateway.start(record.report)
    info = SwarmInfo(SWARM, options={"server": fake.url, "workflow_run_id": "1", "workflow_id": "1"})
    adding = asyncio.ensure_future(gateway.add_swarm(info))
    await held.wait()
    await (gateway.remove_swarm(SWARM) if end == "remove_swarm" else gateway.close())
    go_on.set()
    with pytest.raises(RuntimeError, match="was removed while its run was taken up"):
        await adding
    if end == "remove_swarm":
        await eventually(lambda: run.status == "S")
        await eventually(lambda: not list(tmp_path.iterdir()))
    made = len(fake.calls)
    await asyncio.sleep(0.5)
    assert len(fake.calls) == made
    if end == "remove_swarm":
        await gateway.add_swarm(replace(info, swarm_id="other"))
        await gateway.close()


async def test_a_server_with_a_certificate_of_its_own_is_trusted_by_its_ca(drive, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with FakeJobmon().serving(context) as fake:
        fake.add_run(1, 1, [1])
        driven = await drive(fake.url, ca_file=str(tmp_path / "ca.pem"))
        assert driven.run_statuses == ["R"]
    with pytest.raises(InvalidInputError, match=r"ca_file: .*nowhere.pem cannot be used"):
        await drive("https://127.0.0.1:9", ca_file=str(tmp_path / "nowhere.pem"))


async def test_a_server_that_is_away_is_unavailable(drive, monkeypatch):
    monkeypatch.setattr("swarmd.gateways.jobmon.session.PATIENCE_SECONDS", 0.3)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await drive("http://127.0.0.1:9")


# -- the server's word ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signal", "left"), [("C", "R"), ("H", "O")])
async def test_a_run_that_is_to_be_resumed_ends_its_tasks_and_is_let_go_of(fake, drive, signal, left):
    run = fake.add_run(1, 1, [1, 2, 3]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1, 2))
    fake.set(left, 1)
    fake.set("I", 2)
    run.status = signal
    await driven.record.until(lambda: signal in driven.run_statuses)
    with pytest.raises(BatchRefusedError, match="nothing is queued any more"):
        await driven.gateway.queue_batch(batch(3))
    await eventually(lambda: fake.terminated)
    syncs = len(fake.paths("task_status_updates"))
    await eventually(lambda: len(fake.paths("task_status_updates")) > syncs + 2)
    assert run.status == signal  # task 2 has not ended
    fake.set("F", 2)
    await driven.record.until(lambda: driven.run_statuses[-1] == "T")
    assert run.status == "T"
    assert fake.statuses()[1] == "F"


async def test_a_run_is_not_let_go_of_while_a_call_for_it_is_under_way(fake, drive):
    """Its tasks would be queued in a run that is over, and in the way of the one that follows."""
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(path, body):
        if "queue_task_batch" in path:
            begun.set()
            await go_on.wait()

    fake.before = wait
    queueing = asyncio.ensure_future(driven.gateway.queue_batch(batch(1)))
    await begun.wait()
    run.status = "C"
    await driven.record.until(lambda: "C" in driven.run_statuses)
    syncs = len(fake.paths("task_status_updates"))
    await eventually(lambda: len(fake.paths("task_status_updates")) > syncs + 3)
    assert run.status == "C"
    go_on.set()
    await queueing
    fake.set("F", 1)
    await driven.record.until(lambda: driven.run_statuses[-1] == "T")


async def test_with_a_hot_resume_what_runs_goes_on(fake, drive):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    fake.set("R", 1)
    run.status = "H"
    await driven.record.until(lambda: driven.run_statuses[-1] == "T")
    assert fake.statuses()[1] == "R"


async def test_a_run_is_let_go_of_when_its_tasks_do_not_end(fake, drive):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url, drain_seconds=0.3)
    await driven.gateway.queue_batch(batch(1))
    run.status = "C"
    await driven.record.until(lambda: driven.run_statuses[-1] == "T")
    assert fake.statuses()[1] == "Q"


@pytest.mark.parametrize("status", ["S", "E", "T", "D"])
async def test_a_run_that_is_over_queues_nothing_more(fake, drive, status):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    run.status = status
    await driven.record.until(lambda: driven.run_statuses[-1] == status)
    with pytest.raises(BatchRefusedError, match=life.in_words(status)):
        await driven.gateway.queue_batch(batch(1))
    assert fake.paths("queue_task_batch") == []


async def test_the_limits_are_the_servers(fake, drive):
    workflow = fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    workflow.limit = 5
    await driven.record.until(lambda: [u for _, u in driven.record.updates if u.max_concurrently_running == 5])
    looked = len(fake.paths("get_array_max"))
    assert looked <= 1  # 3.2.2 has no such route, and is not asked again


async def test_the_limits_of_arrays_are_the_servers_where_it_tells_them(fake, drive):
    fake.add_run(1, 1, [1])
    fake.array_limits = {7: 3}
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    await driven.record.until(lambda: [u for _, u in driven.record.updates if u.array_limits == {7: 3}])
    fake.array_limits = {7: 0}
    await driven.record.until(lambda: [u for _, u in driven.record.updates if u.array_limits == {7: 0}])


async def test_an_array_whose_limit_cannot_be_had_keeps_no_other_from_its_turn(fake, drive):
    fake.add_run(1, 1, [1, 2])
    fake.array_limits = {16: 3, 17: 3}
    driven = await drive(fake.url)
    fake.faults["array/16/get_array"] = [Fault(500, "KeyError")] * 1000
    for task_id, array_id in ((1, 16), (2, 17)):
        await driven.gateway.queue_batch(replace(batch(task_id), array=replace(batch(1).array, array_id=array_id)))
    await driven.record.until(lambda: [u for _, u in driven.record.updates if u.array_limits == {17: 3}])


# -- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("succeeded", "status"), [(True, "D"), (False, "E")])
async def test_the_last_status_is_set_at_the_end(fake, drive, succeeded, status):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    fake.faults["update_status"] = [Fault(500, "OperationalError"), Fault()]
    await driven.gateway.swarm_finished(SWARM, succeeded=succeeded)
    assert run.status == driven.run_statuses[-1] == status
    await driven.gateway.swarm_finished(SWARM, succeeded=succeeded)  # again, as after a restart


async def test_a_run_that_never_ran_comes_to_its_end_step_by_step(fake, drive):
    run = fake.add_run(1, 1, [1], status="B") and fake.runs[1]
    driven = await drive(fake.url, start_poll_seconds=60)
    await driven.gateway.swarm_finished(SWARM, succeeded=True)
    assert run.status == "D"
    assert [body["status"] for body in fake.paths("update_status")][-4:] == ["I", "O", "R", "D"]


@pytest.mark.parametrize(("succeeded", "status"), [(True, "D"), (False, "E")])
async def test_a_last_status_that_could_not_be_set_is_set_when_the_swarm_is_removed(
    fake, drive, monkeypatch, succeeded, status
):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    fake.set("D", 1)
    await driven.record.ended(1)
    monkeypatch.setattr("swarmd.gateways.jobmon.session.PATIENCE_SECONDS", 0.2)
    fake.faults["update_status"] = [Fault(503)] * 1000
    with pytest.raises(NotDoneError):
        await driven.gateway.swarm_finished(SWARM, succeeded=succeeded)
    fake.faults.clear()
    monkeypatch.undo()
    await driven.gateway.remove_swarm(SWARM)
    assert run.status == status


async def test_the_servers_word_about_the_last_status_counts(fake, drive):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url, heartbeat_seconds=60)
    run.status = "E"  # by the reaper
    await driven.gateway.swarm_finished(SWARM, succeeded=True)
    assert driven.run_statuses[-1] == "E"


async def test_cancelled_tasks_are_taken_back_and_the_run_is_stopped(fake, drive):
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1, 2))
    fake.set("R", 1)
    await driven.record.running(1)
    fake.set("D", 2)
    await driven.gateway.cancel_tasks(SWARM, [1, 2], [1, 1], "by the test")
    assert fake.statuses() == {1: "G", 2: "D"}  # what is done stays done
    await driven.gateway.swarm_finished(SWARM, succeeded=False)
    assert run.status == "S"
    assert driven.record.ended_ids() == set()


async def test_a_run_that_was_cancelled_under_an_earlier_daemon_is_stopped(fake, drive):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    fake.set("R", 1)
    driven = await drive(fake.url)
    await driven.gateway.resume([], [batch(1)])
    await driven.gateway.swarm_finished(SWARM, succeeded=False)
    assert run.status == "S"
    await eventually(lambda: fake.statuses() == {1: "G"})


async def test_what_a_lost_call_queues_after_its_batch_was_cancelled_and_the_run_stopped_is_taken_back(fake, drive):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url, queue_timeout_seconds=0.3)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(path, body):
        if "queue_task_batch" in path:
            begun.set()
            await go_on.wait()

    fake.before = wait
    queueing = asyncio.ensure_future(driven.gateway.queue_batch(batch(1)))
    await begun.wait()
    await driven.gateway.cancel_tasks(SWARM, [1], [1], "by the test")
    await driven.gateway.swarm_finished(SWARM, succeeded=False)
    assert run.status == "S"
    with pytest.raises(OutcomeUnknownError):
        await queueing
    go_on.set()  # the server gets to it only now
    await eventually(lambda: fake.instances(1) == 1)
    await eventually(lambda: fake.statuses() == {1: "G"})


async def test_a_removed_swarm_stops_its_run_and_what_is_left_of_it(fake, drive):
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1, 2))
    fake.set("R", 1)
    cancelling = asyncio.ensure_future(driven.gateway.cancel_tasks(SWARM, [2], [1], "a moment before"))
    await asyncio.sleep(0)
    await driven.gateway.remove_swarm(SWARM)
    assert run.status == "S"
    assert fake.statuses() == {1: "G", 2: "G"}
    await asyncio.wait([cancelling])


async def test_a_removed_swarm_lets_go_of_a_run_that_is_to_be_resumed(fake, drive):
    """Whoever resumes the workflow waits for that, and no daemon would do it any more."""
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1, 2))
    fake.set("I", 1)
    run.status = "C"
    await driven.record.until(lambda: "C" in driven.run_statuses)
    await driven.gateway.remove_swarm(SWARM)
    assert run.status == "T"
    assert fake.statuses() == {1: "G", 2: "G"}


async def test_what_runs_goes_on_when_its_swarm_is_deleted_while_its_run_is_resumed_hot(fake, drive):
    """As the daemon deletes: first all is cancelled, then the swarm is removed."""
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1, 2))
    fake.set("R", 1)
    await driven.record.running(1)
    run.status = "H"
    await driven.record.until(lambda: "H" in driven.run_statuses)
    await driven.gateway.cancel_tasks(SWARM, [1, 2], [1, 1], "the swarm was deleted")
    await driven.gateway.remove_swarm(SWARM)
    assert run.status == "T"
    assert fake.statuses() == {1: "R", 2: "G"}


async def test_a_removed_swarm_that_never_began_leaves_the_run_for_another_try(fake, drive):
    run = fake.add_run(1, 1, [1], status="B") and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.remove_swarm(SWARM)
    assert run.status == "B"


async def test_who_waits_for_an_answer_is_let_go_when_it_closes(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url, call_timeout_seconds=1000)
    await driven.gateway.queue_batch(batch(1))
    blocked = asyncio.Event()

    async def never(path, body):
        if "task_status_updates" in path:
            blocked.set()
            await asyncio.Event().wait()

    fake.before = never
    await blocked.wait()
    cancelling = asyncio.ensure_future(driven.gateway.cancel_tasks(SWARM, [1], [1], "by the test"))
    finding = asyncio.ensure_future(driven.gateway.find_batch(batch(1)))
    await asyncio.sleep(0.05)
    await driven.gateway.close()
    assert (await finding).found is Found.UNKNOWN
    with pytest.raises(NotDoneError, match="closes"):
        await cancelling


async def test_close_leaves_the_run_to_the_next_daemon(fake, drive):
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1, 2, attempt=3))
    await driven.gateway.close()
    assert run.status == "R"
    fake.set("G", 1)
    fake.set("R", 2)
    again = await drive(fake.url)
    await again.gateway.resume([batch(1, 2, attempt=3)])
    await again.record.ended(1)
    await again.record.running(2)
    assert (SWARM, 1, 3, TaskStatus.ERROR_RECOVERABLE, "task 1 said no") in again.record.news
    assert (SWARM, 2, 3, TaskStatus.RUNNING, "") in again.record.news


# -- looking -------------------------------------------------------------------------------------------------------


async def test_what_the_server_says_of_a_task_can_be_asked_for(fake, drive):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    assert driven.gateway.standing(SWARM, 1, 1) == "Jobmon's server has it as QUEUED; run 1 is RUNNING"
    fake.set("O", 1)
    await driven.record.until(lambda: driven.record.news)
    assert driven.gateway.standing(SWARM, 1, 1) == "Jobmon's server has it as LAUNCHED; run 1 is RUNNING"
    assert driven.gateway.standing(SWARM, 1, 2) == ""
    assert driven.gateway.standing("nobody", 1, 1) == ""


async def test_what_is_missing_is_said_with_the_remedy(monkeypatch):
    assert await JobmonGateway().trouble() == ""
    monkeypatch.setattr("swarmd.gateways.jobmon.settings.find_spec", lambda name: None)
    assert "pip install 'swarmd[jobmon]'" in await JobmonGateway().trouble()


def test_every_way_is_one_that_the_server_goes():
    for begin in life.FOLLOWING:
        for end in "BIORDSETAL":
            at = begin
            for step in life.way(begin, end):
                assert step in life.FOLLOWING[at]
                assert step not in life.RESUMING
                at = step
            assert at in (begin, end)
    assert life.way("L", "D") == "BIORD"
    assert life.way("D", "R") == ""


async def test_many_swarms_each_have_their_run(fake, drive):
    fake.add_run(1, 1, [1])
    fake.add_run(2, 2, [2])
    one, two = await asyncio.gather(drive(fake.url, 1, 1), drive(fake.url, 2, 2))
    await one.gateway.queue_batch(batch(1))
    await two.gateway.queue_batch(batch(2))
    fake.set("D", 1, 2)
    await one.record.ended(1)
    await two.record.ended(2)
    assert (one.record.ended_ids(), two.record.ended_ids()) == ({1}, {2})


async def test_a_run_that_is_over_is_left_in_peace(fake, drive):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.swarm_finished(SWARM, succeeded=True)
    await asyncio.sleep(0.5)  # what was under way
    made = len(fake.calls)
    await asyncio.sleep(1.0)
    assert len(fake.calls) == made
    assert run.status == "D"


async def test_an_error_of_our_own_does_not_end_the_heartbeats(fake, drive, monkeypatch):
    monkeypatch.setattr("swarmd.gateways.jobmon.session.LONGEST_RETRY_SECONDS", 0.1)
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    await drive(fake.url, heartbeat_seconds=0.05)
    fake.faults["log_heartbeat"] = [Fault(200)]  # an answer without a status
    monkeypatch.setattr("swarmd.gateways.jobmon.life.heartbeat_status", lambda status: 1 / 0)
    await asyncio.sleep(0.2)
    monkeypatch.undo()
    beats = len(run.heartbeats)
    await eventually(lambda: len(run.heartbeats) > beats + 2)
