"""RequestLog: the same request_id gets the same answer, and its work is done once."""

import asyncio

import pytest

from swarmd.core.errors import InvalidInputError, NotFoundError
from swarmd.host.requests import RequestLog


class Work:
    """Counts how often it is done; each time a new answer."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done = 0
        self.error = error
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __call__(self) -> int:
        self.done += 1
        answer = self.done
        await self.may_go_on.wait()
        if self.error:
            raise self.error
        return answer


async def test_a_repeat_gets_the_same_answer_and_nothing_is_done_twice():
    log, work = RequestLog[int](), Work()

    assert [await log.once("a", 1, work) for _ in range(3)] == [1, 1, 1]
    assert await log.once("b", 1, work) == 2
    assert work.done == 2


async def test_without_an_id_every_request_is_a_new_one():
    log, work = RequestLog[int](), Work()

    assert [await log.once("", 1, work) for _ in range(3)] == [1, 2, 3]


async def test_repeats_that_come_at_the_same_time_share_one_answer():
    log, work = RequestLog[int](), Work()
    work.may_go_on.clear()
    repeats = [asyncio.ensure_future(log.once("a", 1, work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.may_go_on.set()

    assert await asyncio.gather(*repeats) == [1] * 10
    assert work.done == 1


async def test_work_goes_on_when_its_caller_gives_up_and_the_repeat_gets_its_answer():
    log, work = RequestLog[int](), Work()
    work.may_go_on.clear()
    first = asyncio.ensure_future(log.once("a", 1, work))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    repeat = asyncio.ensure_future(log.once("a", 1, work))
    work.may_go_on.set()

    assert await repeat == 1
    assert work.done == 1


async def test_work_that_failed_is_tried_again():
    log, work = RequestLog[int](), Work(NotFoundError("not yet"))
    for _ in range(2):
        with pytest.raises(NotFoundError):
            await log.once("a", 1, work)
    work.error = None

    assert await log.once("a", 1, work) == 3
    assert await log.once("a", 1, work) == 3


async def test_all_who_asked_at_the_same_time_hear_of_the_failure():
    log, work = RequestLog[int](), Work(NotFoundError("no"))
    answers = await asyncio.gather(*(log.once("a", 1, work) for _ in range(3)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [NotFoundError] * 3
    assert work.done == 1


async def test_the_same_id_for_something_else_is_refused_also_while_the_first_is_under_way():
    log, work = RequestLog[int](), Work()
    work.may_go_on.clear()
    first = asyncio.ensure_future(log.once("a", "this", work))
    await asyncio.sleep(0)
    with pytest.raises(InvalidInputError) as refused:
        await log.once("a", "that", work)
    assert (refused.value.reason, refused.value.field) == ("REQUEST_ID_REUSED", "request_id")
    work.may_go_on.set()
    assert await first == 1
    assert work.done == 1


async def test_only_so_many_are_remembered_the_oldest_are_forgotten():
    log, work = RequestLog[int](remembered=3), Work()
    for name in "abcd":
        await log.once(name, 1, work)

    assert await log.once("d", 1, work) == 4
    assert await log.once("b", 1, work) == 2
    assert await log.once("a", 1, work) == 5


async def test_a_failure_that_was_forgotten_meanwhile_does_not_take_its_successor_along():
    """`a` fails after it was pushed out and asked for anew: the new answer stays remembered."""
    log, slow, quick = RequestLog[int](remembered=1), Work(NotFoundError("late")), Work()
    slow.may_go_on.clear()
    first = asyncio.ensure_future(log.once("a", 1, slow))
    await asyncio.sleep(0)
    await log.once("b", 1, quick)
    assert await log.once("a", 1, quick) == 2
    slow.may_go_on.set()
    with pytest.raises(NotFoundError):
        await first

    assert await log.once("a", 1, quick) == 2


@pytest.mark.parametrize("request_id", ["x" * 129, "é" * 65])
async def test_an_id_that_is_too_long_is_refused(request_id: str):
    work = Work()
    with pytest.raises(InvalidInputError) as refused:
        await RequestLog[int]().once(request_id, 1, work)
    assert (refused.value.reason, refused.value.field) == ("TEXT_TOO_LONG", "request_id")
    assert work.done == 0
    assert await RequestLog[int]().once("é" * 64, 1, work) == 1
