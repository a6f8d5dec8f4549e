"""TaskBook: what the server's answers mean for attempts, whatever order they come in."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from swarmd.gateways.jobmon.book import News, Statuses, TaskBook


def sync(book: TaskBook, statuses: Statuses, *, is_full: bool = False):
    return book.synced(book.begin_sync(), statuses, is_full=is_full)


def told(news: News) -> dict[int, tuple[str, int]]:
    return {task_id: (status, attempt) for status, each in news.by_status.items() for task_id, attempt in each}


@pytest.fixture
def book():
    """Tasks 1 to 3 were called for and queued, as attempt 1."""
    book = TaskBook()
    sync(book, {"G": [1, 2, 3]}, is_full=True)
    assert book.begin_call([1, 2, 3], [1, 1, 1]).to_queue == [1, 2, 3]
    answered = book.answered([1, 2, 3], {"Q": [1, 2, 3]})
    assert not answered.news
    assert not answered.not_queued
    return book


def test_progress_is_reported_once(book):
    assert told(sync(book, {"R": [1], "I": [2]}).news) == {1: ("R", 1), 2: ("I", 1)}
    assert told(sync(book, {"R": [1], "O": [2]}).news) == {2: ("O", 1)}
    assert told(sync(book, {"D": [1], "F": [2]}).news) == {1: ("D", 1), 2: ("F", 1)}
    assert not sync(book, {"D": [1], "F": [2]}).news


def test_a_failed_attempt_comes_back_as_g_and_one_that_ran_out_as_a(book):
    assert told(sync(book, {"G": [1], "A": [2]}).news) == {1: ("E", 1), 2: ("A", 1)}


def test_g_from_before_the_answer_is_ambiguous_and_asked_for_again():
    book = TaskBook()
    sync(book, {"G": [1]}, is_full=True)
    book.begin_call([1], [1])
    number = book.begin_sync()
    book.answered([1], {"Q": [1]})
    synced = book.synced(number, {"G": [1]}, is_full=False)
    assert synced.ambiguous
    assert not synced.news
    assert told(sync(book, {"G": [1]}).news) == {1: ("E", 1)}


def test_g_while_the_call_is_under_way_says_nothing():
    book = TaskBook()
    book.begin_call([1], [1])
    synced = sync(book, {"G": [1]})
    assert synced.ambiguous
    assert not synced.news


def test_news_overtakes_the_answer_to_the_call():
    book = TaskBook()
    sync(book, {"G": [1, 2, 3]}, is_full=True)
    book.begin_call([1, 2, 3], [4, 4, 4])
    assert told(sync(book, {"R": [1], "D": [2]}).news) == {1: ("R", 4), 2: ("D", 4)}
    answered = book.answered([1, 2, 3], {"Q": [1, 2, 3]})
    assert not answered.news
    assert not answered.not_queued
    assert told(sync(book, {"G": [1, 3]}).news) == {1: ("E", 4), 3: ("E", 4)}


def test_what_the_answer_leaves_out_or_shows_unqueued_was_not_queued():
    book = TaskBook()
    book.begin_call([1, 2, 3, 4, 5], [1] * 5)
    answered = book.answered([1, 2, 3, 4, 5], {"Q": [1], "E": [2], "G": [3], "D": [5]})
    assert answered.not_queued == {"": [4], "E": [2], "G": [3]}
    assert told(answered.news) == {5: ("D", 1)}
    assert set(book.entries) == {1}


def test_a_task_that_the_server_does_not_know_is_found_out_by_a_full_sync():
    book = TaskBook()
    book.begin_call([1, 2], [1, 1])
    book.answered([1, 2], {})
    assert book.begin_call([1], [2]).to_queue == [1]
    book.answered([1], {})
    sync(book, {"G": [2]}, is_full=True)
    division = book.begin_call([1, 2], [3, 2])
    assert (division.unknown, division.to_queue) == ([1], [2])


def test_a_task_in_e_is_waited_for(book):
    assert not sync(book, {"E": [1]}).news
    assert 1 in book.entries
    assert told(sync(book, {"A": [1]}).news) == {1: ("A", 1)}


def test_what_goes_on_at_the_server_is_taken_over():
    book = TaskBook()
    assert not sync(book, {"R": [1], "Q": [2], "G": [3]}, is_full=True).news
    division = book.begin_call([1, 2, 3], [1, 1, 1])
    assert (division.taken_over, division.to_queue) == ([1, 2], [3])
    assert told(sync(book, {"R": [1], "G": [2]}).news) == {1: ("R", 1), 2: ("E", 1)}


def test_what_has_ended_elsewhere_is_queued_again():
    book = TaskBook()
    sync(book, {"R": [1]}, is_full=True)
    sync(book, {"G": [1]})
    assert book.begin_call([1], [1]).to_queue == [1]


def test_a_lost_call_that_was_carried_out_is_found_by_one_task_that_goes_on():
    book = TaskBook()
    sync(book, {"G": [1, 2]}, is_full=True)
    book.begin_call([1, 2], [1, 1])
    statuses = {"Q": [1], "G": [2]}
    synced = sync(book, statuses, is_full=True)
    assert told(synced.news) == {1: ("Q", 1)}
    found = book.found([1, 2], statuses, is_over=False)
    assert found.carried_out
    assert found.not_queued == [2]


def test_a_lost_call_is_not_given_up_before_it_is_over():
    book = TaskBook()
    book.begin_call([1], [1])
    sync(book, {"G": [1]}, is_full=True)
    early = book.found([1], {"G": [1]}, is_over=False)
    assert (early.carried_out, early.not_queued) == (False, [])
    assert 1 in book.entries
    late = book.found([1], {"G": [1]}, is_over=True)
    assert (late.carried_out, late.not_queued) == (False, [1])
    assert book.begin_call([1], [2]).to_queue == [1]


def test_a_call_that_is_carried_out_after_all_is_taken_over():
    book = TaskBook()
    book.begin_call([1], [1])
    book.found([1], {"G": [1]}, is_over=True)
    sync(book, {"Q": [1]})
    assert book.begin_call([1], [2]).taken_over == [1]


def test_what_an_earlier_daemon_queued_is_known_from_the_next_sync_on():
    book = TaskBook()
    number = book.begin_sync()
    book.resume([1, 2], [3, 1])
    assert book.synced(number, {"G": [1], "R": [2]}, is_full=True).ambiguous
    assert told(sync(book, {"G": [1]}).news) == {1: ("E", 3)}


def test_a_cancelled_attempt_is_not_spoken_of_and_taken_back(book):
    book.cancel([1], [1])
    synced = sync(book, {"R": [1, 2]})
    assert told(synced.news) == {2: ("R", 1)}
    assert synced.revived == [1]
    late = book.begin_sync()
    book.taken_back([1])
    assert book.synced(late, {"R": [1]}, is_full=True).revived == []  # from before it was taken back
    assert book.begin_call([1], [2]).to_queue == [1]


def test_a_cancelled_attempt_that_goes_on_is_taken_over_when_its_task_is_reset(book):
    book.cancel([1], [1])
    assert book.begin_call([1], [2]).taken_over == [1]
    assert told(sync(book, {"R": [1]}).news) == {1: ("R", 2)}


def test_the_cancel_of_an_earlier_attempt_leaves_the_present_one_alone(book):
    sync(book, {"G": [1]})
    book.begin_call([1], [2])
    book.answered([1], {"Q": [1]})
    book.cancel([1], [1])
    assert told(sync(book, {"R": [1]}).news) == {1: ("R", 2)}


# -- any order of everything ---------------------------------------------------------------------------------------


@dataclass
class OneCall:
    """A call on its way."""

    task_ids: list[int]
    answer: dict[str, list[int]] | None = None
    """Set when the server has carried it out."""
    is_lost: bool = False


@dataclass
class OneSync:
    """A sync on its way."""

    number: int
    is_full: bool
    since: int
    shown: dict[str, list[int]] | None = None
    taken_at: int = 0


@dataclass
class SwarmTask:
    """A task as the swarm sees it."""

    attempt: int = 0
    state: str = "ready"


@dataclass
class ServerTask:
    """A task as the server has it."""

    status: str = "G"
    changed_at: int = 0
    queued: list[int] = field(default_factory=list)
    """The attempts whose call it carried out."""
    ends: dict[int, str] = field(default_factory=dict)


TASKS = range(1, 5)
MAX_ATTEMPTS = 4


class AnyOrder(RuleBasedStateMachine):
    """A server, a swarm and a book between them; answers are late, lost, and overtake each other."""

    def __init__(self):
        super().__init__()
        self.book = TaskBook()
        self.server = {task_id: ServerTask() for task_id in TASKS}
        self.swarm = {task_id: SwarmTask() for task_id in TASKS}
        self.calls: list[OneCall] = []
        self.sync: OneSync | None = None
        self.now = 0
        self.base = 0
        self.holds = False
        self.begin_sync(True)
        self.take_snapshot()
        self.hear_sync()

    def status_of(self, task_id: int) -> dict[str, list[int]]:
        return {self.server[task_id].status: [task_id]}

    def grouped(self, task_ids: Iterable[int]) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for task_id in task_ids:
            groups.setdefault(self.server[task_id].status, []).append(task_id)
        return groups

    def set_status(self, task_id: int, status: str) -> None:
        self.now += 1
        self.server[task_id].status, self.server[task_id].changed_at = status, self.now

    # -- the swarm

    @precondition(lambda self: any(task.state == "ready" for task in self.swarm.values()) and len(self.calls) < 3)
    @rule(data=st.data())
    def queue(self, data):
        ready = [task_id for task_id, task in self.swarm.items() if task.state == "ready"]
        chosen = data.draw(st.lists(st.sampled_from(ready), min_size=1, unique=True))
        for task_id in chosen:
            self.swarm[task_id].attempt += 1
            self.swarm[task_id].state = "reserved"
        division = self.book.begin_call(chosen, [self.swarm[task_id].attempt for task_id in chosen])
        assert not division.unknown
        assert not division.taken_over, "nobody else queues here"
        self.calls.append(OneCall(division.to_queue))

    # -- the server

    @precondition(lambda self: any(call.answer is None for call in self.calls))
    @rule(data=st.data())
    def carry_out(self, data):
        self.carry_out_one(data.draw(st.sampled_from([call for call in self.calls if call.answer is None])))

    @rule(task_id=st.sampled_from(TASKS), how=st.sampled_from(["go", "fail", "adjust", "end"]))
    def move_on(self, task_id, how):
        task = self.server[task_id]
        if task.status not in "QIOR":
            return
        if how == "go":
            if task.status != "R":
                self.set_status(task_id, "QIOR"["QIOR".index(task.status) + 1])
            return
        attempt = task.queued[-1]
        if how == "end":
            self.set_status(task_id, "D")
        elif len(task.queued) >= MAX_ATTEMPTS:
            self.set_status(task_id, "F")
        else:
            self.set_status(task_id, "G" if how == "fail" else "A")
        task.ends[attempt] = {"end": "D", "fail": "E", "adjust": "A"}[how] if task.status != "F" else "F"

    # -- answers to calls

    @precondition(lambda self: any(call.answer is not None and not call.is_lost for call in self.calls))
    @rule(data=st.data())
    def hear_answer(self, data):
        call = data.draw(st.sampled_from([call for call in self.calls if call.answer and not call.is_lost]))
        self.calls.remove(call)
        assert call.answer is not None
        answered = self.book.answered(call.task_ids, call.answer)
        refused = {task_id for ids in answered.not_queued.values() for task_id in ids}
        self.conclude(call.task_ids, refused)
        self.apply(answered.news)

    @precondition(lambda self: any(not call.is_lost for call in self.calls))
    @rule(data=st.data())
    def lose_answer(self, data):
        data.draw(st.sampled_from([call for call in self.calls if not call.is_lost])).is_lost = True

    def conclude(self, task_ids: Iterable[int], refused: set[int]) -> None:
        for task_id in task_ids:
            task = self.swarm[task_id]
            if task.state == "reserved":
                task.state = "ready" if task_id in refused else "active"

    # -- syncs

    @precondition(lambda self: self.sync is None)
    @rule(is_full=st.booleans())
    def begin_sync(self, is_full):
        self.sync = OneSync(self.book.begin_sync(), is_full, self.base)

    @precondition(lambda self: self.sync is not None and self.sync.shown is None)
    @rule()
    def take_snapshot(self):
        sync = self.sync
        assert sync is not None
        seen = [task_id for task_id in TASKS if sync.is_full or self.server[task_id].changed_at >= sync.since]
        sync.shown, sync.taken_at = self.grouped(seen), self.now

    @precondition(lambda self: self.sync is not None and self.sync.shown is not None)
    @rule()
    def hear_sync(self):
        sync, self.sync = self.sync, None
        assert sync is not None
        assert sync.shown is not None
        synced = self.book.synced(sync.number, sync.shown, is_full=sync.is_full)
        if not synced.ambiguous:
            self.base = sync.taken_at
        self.apply(synced.news)
        if sync.is_full:
            self.find(sync)

    def find(self, sync: "OneSync") -> None:
        assert sync.shown is not None
        for call in [call for call in self.calls if call.is_lost]:
            is_over = call.answer is not None and sync.number > 0  # no longer under way: it was carried out
            reserved = [task_id for task_id in call.task_ids if self.swarm[task_id].state == "reserved"]
            found = self.book.found(call.task_ids, sync.shown, is_over=False)
            if found.carried_out:
                assert is_over
                self.calls.remove(call)
                self.conclude(reserved, set(found.not_queued))

    @precondition(lambda self: self.sync is None and any(call.is_lost and call.answer is None for call in self.calls))
    @rule(data=st.data())
    def give_up(self, data):
        """A lost call that will never be carried out."""
        call = data.draw(st.sampled_from([call for call in self.calls if call.is_lost and call.answer is None]))
        statuses = self.grouped(TASKS)
        self.apply(self.book.synced(self.book.begin_sync(), statuses, is_full=True).news)
        reserved = [task_id for task_id in call.task_ids if self.swarm[task_id].state == "reserved"]
        found = self.book.found(call.task_ids, statuses, is_over=True)
        self.calls.remove(call)
        assert not found.carried_out
        self.conclude(reserved, set(reserved))

    # -- another daemon

    @rule()
    def restart(self):
        """The daemon is killed and comes back: it knows attempts and batches in doubt, and nothing else."""
        self.book, self.sync, self.base = TaskBook(), None, 0
        self.apply(self.book.synced(self.book.begin_sync(), self.grouped(TASKS), is_full=True).news)
        active = [task_id for task_id, task in self.swarm.items() if task.state == "active"]
        self.book.resume(active, [self.swarm[task_id].attempt for task_id in active])
        for call in self.calls:
            call.is_lost = True
            reserved = [task_id for task_id in call.task_ids if self.swarm[task_id].state == "reserved"]
            self.book.doubt(reserved, [self.swarm[task_id].attempt for task_id in reserved])

    # -- what must hold

    def apply(self, news: News) -> None:
        for status, attempts in news.by_status.items():
            for task_id, attempt in attempts:
                task, at_server = self.swarm[task_id], self.server[task_id]
                assert attempt == task.attempt
                assert attempt in at_server.queued, "news of an attempt that was never queued"
                if status in "QIOR":
                    task.state = "active"
                    continue
                assert at_server.ends.get(attempt) == status, "an end that was not"
                task.state = {"D": "done", "F": "fatal", "E": "ready", "A": "ready"}[status]

    @invariant()
    def no_attempt_is_queued_twice(self):
        for task in self.server.values():
            assert len(set(task.queued)) == len(task.queued)

    def teardown(self):
        """When everything has been heard, both agree."""
        if self.sync is not None:
            if self.sync.shown is None:
                self.take_snapshot()
            self.hear_sync()
        for call in list(self.calls):
            if call.answer is None:
                self.carry_out_one(call)
            assert call.answer is not None
            if not call.is_lost:
                self.calls.remove(call)
                answered = self.book.answered(call.task_ids, call.answer)
                refused = {task_id for ids in answered.not_queued.values() for task_id in ids}
                self.conclude(call.task_ids, refused)
                self.apply(answered.news)
        for _ in range(2):
            statuses = self.grouped(TASKS)
            self.apply(self.book.synced(self.book.begin_sync(), statuses, is_full=True).news)
            for call in list(self.calls):
                reserved = [task_id for task_id in call.task_ids if self.swarm[task_id].state == "reserved"]
                found = self.book.found(call.task_ids, statuses, is_over=True)
                self.calls.remove(call)
                self.conclude(reserved, set(found.not_queued) if found.carried_out else set(reserved))
        for task_id in TASKS:
            status, state = self.server[task_id].status, self.swarm[task_id].state
            expected = {"G": "ready", "A": "ready", "D": "done", "F": "fatal"}.get(status, "active")
            assert state == expected, f"task {task_id} is {status} at the server and {state} here"

    def carry_out_one(self, call: OneCall) -> None:
        for task_id in call.task_ids:
            task = self.server[task_id]
            assert task.status != "Q", f"task {task_id} gets a second instance"
            if task.status in "GA":
                self.set_status(task_id, "Q")
                task.queued.append(self.swarm[task_id].attempt)
        call.answer = self.grouped(call.task_ids)


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase
