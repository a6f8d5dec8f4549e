"""What an engine tells: passed on, gone on with after a loss, and never forgotten before it is durable."""

import asyncio
import json
import logging
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd._pb.swarm.v1 import task_pb2
from swarmd.core.errors import StorageError
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import BatchRefusedError, SwarmInfo
from swarmd.gateways.remote import bookmark, messages
from swarmd.gateways.remote.watching import Watcher
from tests.gateways.recording import SWARM, Record, batch_of, eventually
from tests.gateways.remote.conftest import DURABLE, config_for
from tests.gateways.remote.scripted import ScriptedEngine, group


async def queued(gateway, engine: ScriptedEngine, *commands: str, swarm_id: str = SWARM) -> str:
    """Queue a batch; gives back what the engine knows the swarm by."""
    async with asyncio.timeout(20):
        while True:
            try:
                await gateway.queue_batch(batch_of(*commands or ("true",), swarm_id=swarm_id))
                return engine.swarm_id
            except BatchRefusedError:  # the engine was away
                await asyncio.sleep(0.05)


def kept_token(home: Path) -> str:
    """Where the next daemon would go on."""
    files = list((home / "remote").glob("*.json"))
    return json.loads(files[0].read_text())["resume_token"] if files else ""


# -- what is passed on -------------------------------------------------------------------------------------------------


async def test_news_is_passed_on_in_its_order(gateway, engine, record):
    swarm = await queued(gateway, engine, "a", "b")
    await engine.tell(swarm, group("RUNNING", 1, 2), group("DONE", 1))
    await engine.tell(swarm, group("ERROR_RECOVERABLE", 2, reason="exit code 1"))
    await record.ended(1, 2)
    assert record.statuses(1) == [TaskStatus.RUNNING, TaskStatus.DONE]
    assert record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "exit code 1")


async def test_limits_travel_as_well_as_statuses(gateway, engine, record):
    swarm = await queued(gateway, engine)
    await engine.tell(swarm, max_concurrently_running=5)
    await record.until(lambda: record.updates)
    assert record.updates[0][1].max_concurrently_running == 5


async def test_what_a_queue_can_hold_is_passed_on(gateway, engine, record):
    swarm = await queued(gateway, engine)
    await engine.tell(swarm, queue_limits=[task_pb2.QueueLimits(queue="long", memory_mib=1024)])
    await record.until(lambda: record.updates)
    (limits,) = record.updates[0][1].queue_limits
    assert (limits.queue, limits.memory_mib, limits.cores) == ("long", 1024, None)


async def test_news_about_no_swarm_of_ours_is_nobodys(gateway, engine, record):
    swarm = await queued(gateway, engine)
    for stranger in ("", SWARM, f"{SWARM}~other"):
        await engine.tell(stranger, group("DONE", 1))
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
    assert len(record.updates) == 1


async def test_news_of_another_engines_swarm_is_not_listened_to(gateway, engine, record, home, caplog):
    (home / "other").mkdir()
    other = ScriptedEngine(home / "other")
    await other.start()
    await gateway.add_swarm(SwarmInfo("other", token="t", options={"address": other.address}))
    swarm = await queued(gateway, engine)
    theirs = await queued(gateway, other, swarm_id="other")
    for _ in range(3):
        await engine.tell(theirs, group("DONE", 1))
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
    assert {swarm_id for swarm_id, *_ in record.news} == {SWARM}
    assert len([each for each in caplog.records if "at another engine" in each.getMessage()]) == 1
    await other.stop()


@pytest.mark.parametrize(
    "bad",
    [group("DONE", 2, attempt=None), group("DONE", 2, attempt=0), group("CANCELLED", 2), group("UNSPECIFIED", 2)],
    ids=["no attempt", "attempt 0", "cancelled", "no status"],
)
async def test_a_group_that_cannot_be_used_is_left_out_and_said(gateway, engine, record, caplog, bad):
    swarm = await queued(gateway, engine, "a", "b")
    await engine.tell(swarm, bad, group("DONE", 1))
    await record.ended(1)
    assert record.ended_ids() == {1}
    assert "is left out" in caplog.text


async def test_an_attempt_that_the_engine_was_not_given_is_left_out_and_said(gateway, engine, record, caplog):
    swarm = await queued(gateway, engine, "a", "b")
    await engine.tell(swarm, group("DONE", 1, 2, attempt=2), group("DONE", 2))
    await record.ended(2)
    assert [(task_id, attempt) for _, task_id, attempt, *_ in record.news] == [(2, 1)]
    assert "about the tasks 1, 2 ... is left out: it names attempts that this engine was not given" in caplog.text


async def test_what_is_wrong_again_and_again_is_said_once(gateway, engine, record, caplog):
    swarm = await queued(gateway, engine)
    for _ in range(50):
        await engine.tell(swarm, group("DONE", 1, attempt=None))
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
    assert caplog.text.count("is left out") == 1


async def test_a_reason_that_is_too_long_is_cut(gateway, engine, record):
    swarm = await queued(gateway, engine)
    await engine.tell(swarm, group("ERROR_RECOVERABLE", 1, reason="é" * 5000))
    await record.ended(1)
    assert record.end_of(1)[1] == "é" * 2048


async def test_much_news_comes_in_several_pieces(gateway, engine, record, monkeypatch):
    monkeypatch.setattr(messages, "IDS_AT_ONCE", 10)
    swarm = await queued(gateway, engine)
    await engine.tell(swarm, group("RUNNING", *range(1, 26)), group("DONE", *range(1, 4)), max_concurrently_running=3)
    await record.ended(1, 2, 3)
    assert len(record.news) == 28
    assert max(len(group.task_ids) for _, update in record.updates for group in update.task_statuses.groups) == 10
    assert record.updates[0][1].max_concurrently_running == 3


# -- losses ------------------------------------------------------------------------------------------------------------


async def test_after_a_loss_it_goes_on_where_it_was(gateway, engine, record):
    swarm = await queued(gateway, engine, "a", "b", "c")
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
    await engine.stop()
    await engine.tell(swarm, group("DONE", 2))
    await engine.start()
    await record.ended(2)
    await engine.tell(swarm, group("DONE", 3))
    await record.ended(3)
    assert engine.places == ["", "1"]
    assert len(record.news) == 3


async def test_a_stream_without_a_sign_of_life_is_opened_anew(gateway, engine, record):
    swarm = await queued(gateway, engine)
    engine.be_silent()
    await eventually(lambda: len(engine.places) > 1)
    assert "no sign of life" in gateway.standing(SWARM, 1, 1)
    engine.be_silent(silent=False)
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND]
)
async def test_an_engine_that_does_not_know_the_place_begins_anew_and_it_is_said(gateway, engine, record, caplog, code):
    swarm = await queued(gateway, engine)
    await engine.stop()
    engine.refused_token = code
    await engine.start()
    await eventually(lambda: engine.places[-2:] == ["0", ""])
    assert "what happened since may be lost" in caplog.text
    await queued(gateway, engine)
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)


async def test_an_engine_without_tokens_is_used_and_warned_of(gateways, engine, record, caplog):
    engine.has_tokens = False
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
    swarm = await queued(gateway, engine)
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
    assert caplog.text.count("gives no resume tokens") == 1


# -- restarts of the daemon --------------------------------------------------------------------------------------------


class SlowJournal(Record):
    """Takes news, and has it on disk when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.on_their_way: list[asyncio.Future[None]] = []

    def report(self, swarm_id: str, update: StateUpdate) -> "asyncio.Future[None]":  # type: ignore[override]
        super().report(swarm_id, update)
        self.on_their_way.append(asyncio.get_running_loop().create_future())
        return self.on_their_way[-1]


async def test_the_next_daemon_goes_on_behind_what_is_durable_and_no_further(gateways, engine, home, monkeypatch):
    monkeypatch.setattr(bookmark, "SAVE_SECONDS", 0.01)
    journal = SlowJournal()
    gateway = await gateways.begin(config_for(engine.address), journal.report, DURABLE)
    swarm = await queued(gateway, engine, "a", "b", "c")
    for task_id in (1, 2, 3):
        await engine.tell(swarm, group("DONE", task_id))
    await journal.ended(1, 2, 3)
    journal.on_their_way[2].set_result(None)
    await asyncio.sleep(0.2)
    assert kept_token(home) == "0"
    journal.on_their_way[0].set_result(None)
    await eventually(lambda: kept_token(home) == "1")
    await gateway.close()
    assert kept_token(home) == "1"

    again = Record()
    await gateways.begin(config_for(engine.address), again.report, DURABLE)
    await again.ended(2, 3)
    assert engine.places == ["", "1"]
    assert again.ended_ids() == {2, 3}


async def test_news_that_could_not_be_written_at_the_end_is_told_to_the_next_daemon(gateways, engine, home):
    waiting: list[asyncio.Future[object]] = []

    def report(swarm_id: str, update: StateUpdate) -> "asyncio.Future[object]":
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    gateway = await gateways.begin(config_for(engine.address), report, DURABLE)
    swarm = await queued(gateway, engine)
    place = kept_token(home)
    await engine.tell(swarm, group("DONE", 1))
    await eventually(lambda: waiting)
    await gateway.close()
    for each in waiting:  # the journal of a full disk, closed after the gateways
        each.set_exception(StorageError("the journal is closed"))
        each.exception()
    await asyncio.sleep(0.2)
    assert kept_token(home) == place


async def test_a_token_that_cannot_be_read_again_stops_no_news(gateways, engine, record, home, monkeypatch):
    token = home / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    gateway = await gateways.begin(config_for(engine.address, token_file=token), record.report, DURABLE)
    swarm = await queued(gateway, engine)

    def fails(path, field):
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr("swarmd.gateways.remote.calls.read_token", fails)
    await engine.stop()
    await engine.start()
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)


async def test_a_message_in_hand_when_it_begins_again_further_back_does_not_count(tmp_path):
    """News of a swarm that is taken up late was passed over; what came behind it must not hide it."""

    class Stream:
        """Has a message in hand when it is cut off."""

        def __init__(self) -> None:
            self.message: asyncio.Future[pb.WatchUpdatesResponse] = asyncio.get_running_loop().create_future()

        async def read(self) -> pb.WatchUpdatesResponse:
            return await self.message

        def cancel(self) -> None:
            pass

    class Calls:
        def __init__(self) -> None:
            self.streams: list[Stream] = []

        def watch_updates(self, resume_token: str) -> Stream:
            self.streams.append(Stream())
            return self.streams[-1]

        async def refresh_token(self) -> None:
            pass

    taken: list[pb.WatchUpdatesResponse] = []

    def take(message: pb.WatchUpdatesResponse) -> list[bookmark.Written]:
        taken.append(message)
        return []

    calls, place = Calls(), bookmark.Bookmark(tmp_path / "place", "x")
    watcher = Watcher(calls, place, take, address="x", progress_interval=60.0)  # type: ignore[arg-type]
    watcher.start()
    await eventually(lambda: calls.streams)
    await asyncio.sleep(0.01)
    calls.streams[0].message.set_result(pb.WatchUpdatesResponse(resume_token="7"))
    watcher.reopen()
    await eventually(lambda: len(calls.streams) == 2)
    assert (taken, place.latest) == ([], "")
    calls.streams[1].message.set_result(pb.WatchUpdatesResponse(resume_token="5"))
    await eventually(lambda: taken)
    assert place.latest == "5"
    await watcher.close()


async def test_what_happened_while_no_daemon_was_there_is_told_to_the_next(gateways, engine, record):
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
    swarm = await queued(gateway, engine, "a", "b")
    await gateway.close()
    await engine.tell(swarm, group("DONE", 1, 2))
    again = Record()
    await gateways.begin(config_for(engine.address), again.report, DURABLE)
    await again.ended(1, 2)


async def test_a_place_is_on_disk_before_the_first_batch_goes(gateways, engine, record, home):
    kept = []

    async def queue(request, context):
        kept.extend((home / "remote").glob("*.json"))
        raise ValueError("the daemon is gone")

    engine.queue = queue
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
    with pytest.raises(Exception, match="the daemon is gone"):
        await gateway.queue_batch(batch_of("true"))
    assert len(kept) == 1
    assert kept_token(home) == "0"


async def test_news_of_a_swarm_that_is_not_taken_up_yet_waits_for_it(gateways, engine, record, home, monkeypatch):
    monkeypatch.setattr(bookmark, "SAVE_SECONDS", 0.01)
    late = SwarmInfo("late", token="t")
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE, late)
    swarm = await queued(gateway, engine)
    theirs = await queued(gateway, engine, swarm_id="late")
    await gateway.close()
    await engine.tell(theirs, group("DONE", 1))
    await engine.tell(swarm, group("DONE", 1))

    again = Record()
    gateway = await gateways.begin(config_for(engine.address), again.report, DURABLE)
    await again.until(lambda: again.news)
    await asyncio.sleep(0.1)
    assert kept_token(home) == "0", "the news of the other one is still ahead"
    await gateway.add_swarm(late)
    await again.until(lambda: {swarm_id for swarm_id, *_ in again.news} == {SWARM, "late"})
    await eventually(lambda: kept_token(home) == "2")


async def test_swarms_in_memory_leave_nothing_behind(gateways, engine, record, home):
    gateway = await gateways.begin(config_for(engine.address), record.report, SwarmInfo(SWARM))
    swarm = await queued(gateway, engine)
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
    await gateway.close()
    assert not list(home.glob("remote/*"))


async def test_an_engine_without_swarms_is_forgotten(gateway, engine, home):
    await queued(gateway, engine)
    assert kept_token(home)
    await gateway.remove_swarm(SWARM)
    await eventually(lambda: not list((home / "remote").glob("*.json")))


async def test_a_file_that_cannot_be_read_stops_the_swarm_with_a_clear_word(gateways, engine, record, home):
    (home / "remote").write_text("in the place of the folder")
    with pytest.raises(StorageError, match="cannot be read"):
        await gateways.begin(config_for(engine.address), record.report, DURABLE)


async def test_a_damaged_file_is_said_and_news_is_heard_from_then_on(gateways, engine, record, home, caplog):
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
    swarm = await queued(gateway, engine)
    await gateway.close()
    (file,) = (home / "remote").glob("*.json")
    file.write_text("{")
    again = Record()
    gateway = await gateways.begin(config_for(engine.address), again.report, DURABLE)
    await queued(gateway, engine)
    await engine.tell(swarm, group("DONE", 1))
    await again.ended(1)
    assert "is damaged" in caplog.text


async def test_a_journal_that_is_slow_holds_the_engine_up_and_loses_nothing(gateways, engine, monkeypatch):
    monkeypatch.setattr(bookmark, "MOST_BEHIND", 3)
    journal = SlowJournal()
    gateway = await gateways.begin(config_for(engine.address), journal.report, DURABLE)
    swarm = await queued(gateway, engine, *["true"] * 10)
    for task_id in range(1, 11):
        await engine.tell(swarm, group("DONE", task_id))
    await journal.until(lambda: len(journal.news) == 4)
    await asyncio.sleep(0.1)
    assert len(journal.news) == 4
    while len(journal.news) < 10 or not all(each.done() for each in journal.on_their_way):
        for each in journal.on_their_way:
            if not each.done():
                each.set_result(None)
        await asyncio.sleep(0.01)
    assert journal.ended_ids() == set(range(1, 11))


# -- for people --------------------------------------------------------------------------------------------------------


async def test_it_is_said_where_an_attempt_is(gateway, engine, record):
    swarm = await queued(gateway, engine, "a", "b")
    assert gateway.standing(SWARM, 1, 1).startswith(f"at the engine at {engine.address}")
    assert gateway.standing(SWARM, 1, 2) == ""
    assert gateway.standing("stranger", 1, 1) == ""
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
    assert gateway.standing(SWARM, 1, 1) == ""
    assert gateway.standing(SWARM, 2, 1)


async def test_it_is_said_since_when_an_engine_is_away(gateway, engine, caplog):
    caplog.set_level(logging.INFO)
    await queued(gateway, engine)
    await engine.stop()
    await eventually(lambda: "cannot be reached since" in gateway.standing(SWARM, 1, 1))
    await engine.start()
    await eventually(lambda: "last heard of at" in gateway.standing(SWARM, 1, 1))
    assert "cannot be heard" in caplog.text
    assert caplog.text.count("is there") == 2
