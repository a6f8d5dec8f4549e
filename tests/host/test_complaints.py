"""A gateway that tells nonsense again and again: the log says so once a minute, and how often."""

import logging

from swarmd.core.errors import NotFoundError
from swarmd.host.complaints import QUIET_SECONDS, Complaints
from swarmd.host.registry import Registry
from tests.core.builders import news
from tests.host.engine import Engine
from tests.host.test_registry import with_tasks


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]


async def test_wrong_news_is_in_the_log_once_however_much_there_is(caplog):
    registry = Registry({"engine": Engine()})
    swarm = await with_tasks(registry, "s", 1)
    with caplog.at_level(logging.WARNING):
        for task_id in range(100, 200):
            assert swarm.report(news("D", [task_id])) is None
        assert swarm.report(None) is None  # type: ignore[arg-type]
    assert len(said(caplog)) == 1
    assert "100" in said(caplog)[0]
    assert "times=1" in said(caplog)[0]
    await registry.close()


def test_after_a_minute_it_is_said_again_with_how_often_it_was(caplog):
    now = [1000.0]
    complaints = Complaints("s", clock=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            complaints.refused(NotFoundError("no task 5", reason="UNKNOWN_TASK"))
        now[0] += QUIET_SECONDS
        complaints.refused(TypeError("no news"))
        complaints.refused(TypeError("no news"))
    first, second = said(caplog)
    assert "no task 5" in first
    assert "it holds what is no news" in second
    assert "times=10" in second
    assert "TypeError" in second


def test_each_swarm_has_its_own_minute(caplog):
    with caplog.at_level(logging.WARNING):
        for swarm_id in ("a", "b"):
            Complaints(swarm_id).refused(NotFoundError("no task 5", reason="UNKNOWN_TASK"))
    assert len(said(caplog)) == 2
