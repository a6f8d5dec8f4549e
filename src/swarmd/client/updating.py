"""UpdateStream: news of tasks on its way to the daemon, through lost connections and restarts.

Messages are sent one after the other without waiting for answers. Those that were not answered are kept, and sent
again, in order, when the connection is back, if they say which attempts they are about: repeating that is harmless.
Without attempts a repeat could be about the next attempt, or about a task that was reset meanwhile; it is not made.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1 import state_pb2
from swarmd.client import decoding
from swarmd.client.encoding import Ids, ids_of, status_group, status_of, update_message
from swarmd.client.errors import NoDaemonError, RpcError, client_closed
from swarmd.client.protocol import ProtocolClient
from swarmd.client.retrying import Patience, may_repeat
from swarmd.client.values import UpdateResult
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate

MOST_IDS = 50_000
"""Of a message. The daemon takes 100,000; news about more tasks goes in several messages."""
MAX_UNANSWERED = 64
MAX_UNANSWERED_BYTES = 32 << 20
FLUSH_SECONDS = 5.0
"""How long answers are waited for at the end of a block that raised an error."""

_AT_ONCE = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)
"""What ends a block without any waiting."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A message that was not answered yet."""

    request: scheduler_pb.ApplyUpdateRequest
    size: int
    answer: "asyncio.Future[UpdateResult] | None"
    """Where somebody waits for it; None: errors are told later."""
    was_sent: bool = False


class UpdateStream:
    """A way for news into one swarm; an async context manager, which waits for all answers at its end.

    `report` and its kin return as soon as the news is on its way, and wait only when too much was not answered yet;
    an error of theirs is raised by the next call, which sends its own news all the same, by `flush`, or at the end.
    `apply` waits for its answer. When the block ends with an error of its own, a few seconds are waited for answers;
    when it is cancelled or interrupted, what was not answered is given up.

        async with client.updates("study") as updates:
            for batch in (await study.tick()).batches:
                await updates.running(batch.task_ids, batch.attempts)
                await updates.done(batch.task_ids, batch.attempts)
    """

    def __init__(self, client: ProtocolClient, swarm_id: str = "") -> None:
        self._client = client
        self._swarm_id = swarm_id
        self._pending: deque[_Pending] = deque()
        self._bytes = 0
        self._sequence = 0
        self._changed = asyncio.Condition()
        self._worker: asyncio.Task[None] | None = None
        self._closing = False
        self._refusal: RpcError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
            return
        if not issubclass(kind, _AT_ONCE):  # what was told before an error is still true
            with contextlib.suppress(RpcError, TimeoutError):
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self.flush()
        await self.close(flush=False)

    # -- news ------------------------------------------------------------------------------------------------------

    async def report(
        self, status: TaskStatus | str, task_ids: Ids, attempts: Ids | None = None, *, reason: str = ""
    ) -> None:
        """Tell that tasks have a status; `attempts`: which attempt that is about, one for each or one for all.

        Give the attempts: news without them is not told again when the connection is lost before it was answered, and
        the error is then NoDaemonError with the reason OUTCOME_UNKNOWN.

            await updates.report(TaskStatus.RUNNING, np.arange(1, 1001), 1)
        """
        for message in status_updates(status_of(status), task_ids, attempts, reason):
            await self._put(self._swarm_id, message, answer=None)
        self._tell_refusal()

    async def running(self, task_ids: Ids, attempts: Ids | None = None) -> None:
        """Tell that these tasks run.

        await updates.running(np.arange(1, 101), 1)
        """
        await self.report(TaskStatus.RUNNING, task_ids, attempts)

    async def done(self, task_ids: Ids, attempts: Ids | None = None) -> None:
        """Tell that these tasks succeeded: what waits for them is freed.

        await updates.done([1, 2, 3], attempts=1)
        """
        await self.report(TaskStatus.DONE, task_ids, attempts)

    async def failed(self, task_ids: Ids, attempts: Ids | None = None, *, reason: str = "") -> None:
        """Tell that an attempt of these tasks failed: they are queued again while they have attempts left.

        for batch in (await study.tick()).batches:
            await updates.failed(batch.task_ids, batch.attempts, reason="exit code 1")
        """
        await self.report(TaskStatus.ERROR_RECOVERABLE, task_ids, attempts, reason=reason)

    async def apply(self, update: StateUpdate | Mapping[int, str]) -> UpdateResult:
        """Send any set of changes, as one unit, and wait for its answer. Raises RpcError when it is refused.

        `update`: a StateUpdate, or just statuses by task id.

            result = await updates.apply({1: "D", 2: "F"})
        """
        return await self.apply_message(update_message(update))

    async def apply_message(self, update: state_pb2.StateUpdate) -> UpdateResult:
        """The same for a message of the protocol.

        await updates.apply_message(update_message({1: "D"}))
        """
        return await self._apply(self._swarm_id, update)

    async def flush(self) -> None:
        """Wait until everything is answered. Raises the first error of news that `report` sent.

        await updates.flush()
        """
        async with self._changed:
            await self._changed.wait_for(lambda: not self._pending)
        self._tell_refusal()

    async def close(self, *, flush: bool = True) -> None:
        """End the stream; without `flush` what is not answered is given up.

        await study.updates().close()
        """
        try:
            if flush:
                await self.flush()
        finally:
            self._closing = True
            worker, self._worker = self._worker, None
            if worker is not None:
                await self._notify()
                if not flush or self._pending:
                    worker.cancel()
                await asyncio.wait([worker])
            self._give_up(self._closed())
            await self._notify()

    # -- what was not answered -------------------------------------------------------------------------------------

    async def _apply(self, swarm_id: str, update: state_pb2.StateUpdate) -> UpdateResult:
        answer: asyncio.Future[UpdateResult] = asyncio.get_running_loop().create_future()
        pending = await self._put(swarm_id, update, answer)
        try:
            self._tell_refusal()
        except RpcError:
            pending.answer = None  # nobody waits for it: an error of its own is told later
            raise
        return await answer

    async def _put(
        self, swarm_id: str, update: state_pb2.StateUpdate, answer: "asyncio.Future[UpdateResult] | None"
    ) -> _Pending:
        """Send a message as soon as there is room for it."""
        request = scheduler_pb.ApplyUpdateRequest(swarm_id=swarm_id, update=update)
        pending = _Pending(request, request.ByteSize(), answer)
        async with self._changed:
            await self._changed.wait_for(lambda: self._closing or self._has_room(pending.size))
            if self._closing:
                raise self._closed()
            self._sequence += 1
            request.sequence = self._sequence
            self._pending.append(pending)
            self._bytes += pending.size
            self._changed.notify_all()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="updates")
        return pending

    def _has_room(self, size: int) -> bool:
        if not self._pending:
            return True
        return len(self._pending) < MAX_UNANSWERED and self._bytes + size <= MAX_UNANSWERED_BYTES

    def _tell_refusal(self) -> None:
        if self._closing:
            raise self._closed()
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _closed(self) -> RpcError:
        if self._client.is_closed:
            return client_closed()
        return RpcError("the stream of updates was closed; open another one", code="CANCELLED", reason="CLOSED")

    def _settle(self, pending: _Pending, outcome: UpdateResult | RpcError) -> None:
        """Forget a message: this is what became of it."""
        self._bytes -= pending.size
        if pending.answer is None:
            if isinstance(outcome, RpcError):
                self._refusal = self._refusal or outcome
        elif not pending.answer.done():
            if isinstance(outcome, RpcError):
                pending.answer.set_exception(outcome)
            else:
                pending.answer.set_result(outcome)

    def _give_up(self, error: RpcError) -> None:
        while self._pending:
            self._settle(self._pending.popleft(), error)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # -- the stream ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Send what there is until the end. Whatever ends this, nobody is left waiting."""
        try:
            await self._keep_open()
        except BaseException as error:
            self._give_up(self._closed() if self._closing else _broken(error))
            await self._notify()
            if not isinstance(error, Exception):
                raise

    async def _keep_open(self) -> None:
        """Keep a stream open while there is news, and open another one when it is lost."""
        patience = Patience(self._client.patience)
        while await self._has_news():
            try:
                async for message in self._client.apply_updates(self._requests()):
                    patience.renew()
                    self._answered(message)
                    await self._notify()
                lost: RpcError = NoDaemonError("the daemon ended the stream", address=str(self._client.address))
            except RpcError as error:
                lost = error
            if self._pending:
                await self._recover(lost, patience)

    async def _has_news(self) -> bool:
        """Wait for news; False at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closing or bool(self._pending))
        return bool(self._pending)

    async def _requests(self) -> AsyncIterator[scheduler_pb.ApplyUpdateRequest]:
        """What was not answered, from the oldest on, and then what comes."""
        pending = await self._next(0)
        while pending is not None:
            pending.was_sent = True
            yield pending.request
            pending = await self._next(pending.request.sequence)

    async def _next(self, last: int) -> _Pending | None:
        """Wait for the oldest message after this one; None at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closing or self._newer(last) is not None)
        return self._newer(last)

    def _newer(self, last: int) -> _Pending | None:
        if not self._pending or self._pending[-1].request.sequence <= last:
            return None
        place = max(0, last + 1 - self._pending[0].request.sequence)
        return self._pending[place]

    def _answered(self, message: scheduler_pb.ApplyUpdateResponse) -> None:
        if not self._pending or message.sequence != self._pending[0].request.sequence:
            return  # of a message that was given up
        pending = self._pending.popleft()
        if message.HasField("error"):
            self._settle(pending, decoding.update_error(message.error))
        else:
            self._settle(pending, decoding.update_result(message))

    async def _recover(self, error: RpcError, patience: Patience) -> None:
        """Wait until the stream can be opened again; when that cannot help, nothing of it is kept."""
        try:
            if not may_repeat(error, repeatable=True, reached=self._client.had_answers):
                raise error
            self._keep_repeatable(error)
            await self._notify()
            await patience.pause(error)
        except RpcError as final:
            self._give_up(final)
            patience.renew()
            await self._notify()

    def _keep_repeatable(self, error: RpcError) -> None:
        kept = [each for each in self._pending if not each.was_sent or is_repeatable(each.request.update)]
        for each in set(self._pending) - set(kept):
            self._settle(each, _not_known(error))
        for number, each in enumerate(kept, start=self._sequence - len(kept) + 1):
            each.request.sequence = number  # without gaps, whatever was given up
        self._pending = deque(kept)


def status_updates(
    status: TaskStatus, task_ids: Ids, attempts: Ids | None = None, reason: str = ""
) -> Iterator[state_pb2.StateUpdate]:
    """Tasks with one status, in as many updates as they need."""
    ids = ids_of(task_ids)
    fences = None if attempts is None else ids_of(attempts, "attempts")
    for start in range(0, len(ids), MOST_IDS):
        part = slice(start, start + MOST_IDS)
        whole = fences is None or len(fences) == 1 or len(ids) <= MOST_IDS
        group = status_group(status, ids[part], fences if whole or fences is None else fences[part], reason)
        yield state_pb2.StateUpdate(task_statuses=[group])


def is_repeatable(update: state_pb2.StateUpdate) -> bool:
    """Whether nothing else happens when it is applied twice: all that it tells of tasks says of which attempts.

    Whatever the status is: before a repeat comes, the task may have failed, or been reset, and be ready again.
    """
    return all(
        len(group.attempts) == len(group.task_ids) and all(attempt > 0 for attempt in group.attempts)
        for group in update.task_statuses
    )


def _broken(error: BaseException) -> RpcError:
    message = f"the stream of updates broke ({error!r}); whether its news was taken is not known"
    return RpcError(message, code="UNKNOWN", reason="STREAM_BROKEN")


def _not_known(error: RpcError) -> RpcError:
    message = f"{error.message}; whether this news was taken is not known, and it cannot be told again without attempts"
    return NoDaemonError(message, address=error.metadata.get("address", ""), reason="OUTCOME_UNKNOWN")
