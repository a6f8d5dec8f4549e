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


def a_log() -> RequestLog[int]:
    """A log whose answers nobody remembers but while the work is under way."""
    return RequestLog(lambda request_id: None)


class Remembering:
    """A log, and the answers that were given."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[str, int]] = {}
        self.log: RequestLog[int] = RequestLog(self.answers.get)

    async def once(self, request_id: str, asked: str, work: "Work") -> int:
        async def remembered() -> int:
            answer = await work()
            self.answers[request_id] = asked, answer
            return answer

        return await self.log.once(request_id, asked, remembered)


async def test_a_repeat_gets_the_same_answer_and_nothing_is_done_twice():
    log, work = Remembering(), Work()

    assert [await log.once("a", "this", work) for _ in range(3)] == [1, 1, 1]
    assert await log.once("b", "this", work) == 2
    assert work.done == 2


async def test_without_an_id_every_request_is_a_new_one():
    log, work = a_log(), Work()

    assert [await log.once("", "this", work) for _ in range(3)] == [1, 2, 3]


async def test_repeats_that_come_at_the_same_time_share_one_answer():
    log, work = a_log(), Work()
    work.may_go_on.clear()
    repeats = [asyncio.ensure_future(log.once("a", "this", work)) for _ in range(10)]
    await asyncio.sleep(0)
    work.may_go_on.set()

    assert await asyncio.gather(*repeats) == [1] * 10
    assert work.done == 1


async def test_work_goes_on_when_its_caller_gives_up_and_the_repeat_gets_its_answer():
    log, work = a_log(), Work()
    work.may_go_on.clear()
    first = asyncio.ensure_future(log.once("a", "this", work))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    repeat = asyncio.ensure_future(log.once("a", "this", work))
    work.may_go_on.set()

    assert await repeat == 1
    assert work.done == 1


async def test_work_that_failed_is_tried_again():
    log, work = Remembering(), Work(NotFoundError("not yet"))
    for _ in range(2):
        with pytest.raises(NotFoundError):
            await log.once("a", "this", work)
    work.error = None

    assert await log.once("a", "this", work) == 3
    assert await log.once("a", "this", work) == 3


async def test_all_who_asked_at_the_same_time_hear_of_the_failure():
    log, work = a_log(), Work(NotFoundError("no"))
    answers = await asyncio.gather(*(log.once("a", "this", work) for _ in range(3)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [NotFoundError] * 3
    assert work.done == 1


async def test_the_same_id_for_something_else_is_refused_also_while_the_first_is_under_way():
    log, work = Remembering(), Work()
    work.may_go_on.clear()
    first = asyncio.ensure_future(log.once("a", "this", work))
    await asyncio.sleep(0)
    with pytest.raises(InvalidInputError) as refused:
        await log.once("a", "that", work)
    assert (refused.value.reason, refused.value.field) == ("REQUEST_ID_REUSED", "request_id")
    work.may_go_on.set()
    assert await first == 1
    assert work.done == 1


async def test_what_is_remembered_is_answered_without_work_and_for_the_same_request_only():
    log = RequestLog[int]({"a": ("this", 7), "old": ("", 8)}.get)
    work = Work()

    assert await log.once("a", "this", work) == 7
    assert await log.once("old", "that", work) == 8, "nobody knows what it had asked for"
    with pytest.raises(InvalidInputError):
        await log.once("a", "that", work)
    assert work.done == 0


@pytest.mark.parametrize("request_id", ["x" * 129, "é" * 65])
async def test_an_id_that_is_too_long_is_refused(request_id: str):
    work = Work()
    with pytest.raises(InvalidInputError) as refused:
        await a_log().once(request_id, "this", work)
    assert (refused.value.reason, refused.value.field) == ("TEXT_TOO_LONG", "request_id")
    assert work.done == 0
    assert await a_log().once("é" * 64, "this", work) == 1
