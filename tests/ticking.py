"""What the tests of the Scheduler share: swarms of many batches, and one iteration as a program writes it."""

from typing import Any

import pytest

from swarmd import Scheduler, SwarmState
from swarmd.outcomes import TickUpdate
from tests.core.builders import a_swarm, a_task, well

LONG = 60.0


@pytest.fixture(autouse=True)
def quick_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of a batch in doubt is asked after at once."""
    monkeypatch.setattr("swarmd.scheduler.FIRST_ASK_SECONDS", 0.005)
    monkeypatch.setattr("swarmd.scheduler.LONGEST_ASK_SECONDS", 0.02)


def many_arrays(count: int, **options: Any) -> SwarmState:
    """A swarm of so many arrays with one task each, so that each task is a batch of its own."""
    return a_swarm([a_task(number, array=number) for number in range(1, count + 1)], arrays=count, **options)


async def ticked(scheduler: Scheduler, state: SwarmState, timeout: float = -1) -> TickUpdate:  # noqa: ASYNC109
    """One iteration as DESIGN 8 writes it."""
    update = await scheduler.tick(timeout)
    state.apply_update(update)
    assert well(state)
    return update
