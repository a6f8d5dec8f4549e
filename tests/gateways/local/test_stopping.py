"""The daemon is stopped as it was asked: tasks that could survive it are left, or ended and given back."""

import asyncio
import os

import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local.adoption import is_running
from tests.gateways.local.earlier_daemon import EarlierDaemon, next_daemon, same_batch
from tests.gateways.recording import SWARM, batch_of, eventually, local_engine

STOPPED = (TaskStatus.REGISTERED, "the daemon was stopped")
STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"


@pytest.fixture
def earlier(tmp_path):
    earlier = EarlierDaemon(tmp_path)
    yield earlier
    earlier.end_all()


async def test_what_runs_is_left_for_the_next_daemon(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=1, leave_on_close=True) as first:
        await first.queue("sleep 0.5; echo whole", "echo later")
        await first.record.running(1)
        await eventually(lambda: earlier.status().exists())
        await first.gateway.close()
        assert first.record.ended_ids() == set()
        assert is_running(earlier.started())
    async with next_daemon(tmp_path, cores=1) as second:
        await second.gateway.resume([same_batch("sleep 0.5; echo whole", "echo later")])
        await second.record.ended(1, 2)
    assert (earlier.out(1), earlier.out(2)) == ("whole\n", "later\n")


async def test_what_is_being_cancelled_is_not_left(tmp_path, earlier):
    async with next_daemon(tmp_path, leave_on_close=True) as engine:
        await engine.queue(STUBBORN, "sleep 100")
        await engine.record.running(1, 2)
        await eventually(lambda: earlier.status(1).exists() and earlier.status(2).exists())
        await engine.cancel(1)
        await engine.gateway.close()
        assert not is_running(earlier.started(1))
        assert is_running(earlier.started(2))
        assert engine.record.ended_ids() == set()


async def test_a_swarm_that_is_removed_has_nothing_running_any_more(tmp_path, earlier):
    """Soon nobody knows of it: even what ignores TERM is over when `remove_swarm` returns."""
    async with next_daemon(tmp_path, kill_grace=0.3, leave_on_close=True) as engine:
        await engine.queue(STUBBORN)
        await engine.record.running(1)
        await eventually(lambda: earlier.status(1).exists())
        await engine.gateway.remove_swarm(SWARM)
        assert not is_running(earlier.started(1))


async def test_what_cannot_survive_is_ended_in_any_case(tmp_path):
    async with local_engine(tmp_path, leave_on_close=True) as engine:
        await engine.queue(f"echo $$ > {tmp_path}/pid; exec sleep 100")
        await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        await engine.gateway.close()
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
        assert engine.record.ended_ids() == set()


async def test_what_is_ended_or_dropped_is_given_back(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=2) as engine:
        await engine.queue("sleep 100", STUBBORN, "echo never")
        await engine.record.running(1, 2)
        await eventually(lambda: earlier.status(1).exists() and earlier.status(2).exists())
        await engine.gateway.close()
        assert {engine.record.end_of(task_id) for task_id in (1, 2, 3)} == {STOPPED}
        assert {attempt for _, _, attempt, *_ in engine.record.news} == {1}
        assert not is_running(earlier.started(1))
        assert not is_running(earlier.started(2))
        assert not earlier.status(3).exists()


async def test_what_was_cancelled_is_not_given_back(tmp_path):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.queue(STUBBORN, "true")
        await engine.record.running(1)
        await engine.cancel(1, 2)
        await engine.gateway.close()
        assert engine.record.ended_ids() == set()


async def test_what_an_earlier_daemon_may_still_start_is_given_back_and_never_starts(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.queue("sleep 100", first_id=2)
        await engine.record.running(2)
        await engine.gateway.resume([same_batch("true")])
        await engine.gateway.close()
        assert engine.record.end_of(1) == STOPPED
        assert earlier.status(1).read_text() == "never\n"


async def test_an_adopted_task_is_ended_and_given_back(tmp_path, earlier):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        await engine.gateway.close()
        assert engine.record.end_of(1) == STOPPED
        assert not is_running(earlier.started())


async def test_an_adopted_task_is_left_again(tmp_path, earlier):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path, leave_on_close=True) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        await engine.gateway.close()
        assert engine.record.ended_ids() == set()
    assert is_running(earlier.started())


@pytest.mark.parametrize("leave", [True, False])
async def test_a_close_in_the_midst_of_resuming_settles_everything(tmp_path, earlier, leave):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path, leave_on_close=leave) as engine:
        resuming = asyncio.create_task(engine.gateway.resume([same_batch("sleep 100", "true")]))
        await asyncio.sleep(0)
        await engine.gateway.close()
        await resuming
        assert is_running(earlier.started()) is leave
        assert engine.record.ended_ids() == (set() if leave else {1, 2})


async def test_a_second_signal_kills_only_what_is_not_left(tmp_path, earlier):
    async with next_daemon(tmp_path, leave_on_close=True) as engine:
        await engine.gateway.add_swarm(SwarmInfo("other"))
        await engine.queue("sleep 100")
        await engine.gateway.queue_batch(batch_of(f"echo $$ > {tmp_path}/pid; exec sleep 100", swarm_id="other"))
        await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        await eventually(lambda: earlier.status().exists())
        engine.gateway.kill_all()
        await eventually(lambda: not _exists(int((tmp_path / "pid").read_text())))
        assert is_running(earlier.started())


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_swarm_that_is_gone_is_not_given_back(tmp_path):
    async with next_daemon(tmp_path) as engine:
        await engine.queue("sleep 100")
        await engine.record.running(1)
        await engine.gateway.remove_swarm(SWARM)
        await engine.gateway.close()
        assert engine.record.ended_ids() == set()
