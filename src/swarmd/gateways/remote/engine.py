"""Engine: one server that runs tasks, with everything that goes on with it, for all swarms that name it."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd.core.batch import Batch
from swarmd.core.columns import Int32s
from swarmd.core.errors import SwarmdError
from swarmd.core.ids import Int64s
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, StatusGroup
from swarmd.gateways.contract import (
    BatchRefusedError,
    FindOutcome,
    Found,
    OutcomeUnknownError,
    QueueOutcome,
    Report,
    SwarmInfo,
)
from swarmd.gateways.remote.bookmark import Bookmark, Written
from swarmd.gateways.remote.calls import SETTLED, EngineCalls, described
from swarmd.gateways.remote.cancelling import GIVE_UP_SECONDS, Cancels, Key
from swarmd.gateways.remote.complaints import Complaints
from swarmd.gateways.remote.messages import left_out, news_of, queue_request, refusals_of
from swarmd.gateways.remote.options import Credentials, EngineOptions, RemoteConfig
from swarmd.gateways.remote.watching import Watcher

log = logging.getLogger(__name__)

ENDS = frozenset(
    {
        TaskStatus.DONE,
        TaskStatus.ERROR_FATAL,
        TaskStatus.ERROR_RECOVERABLE,
        TaskStatus.ADJUSTING_RESOURCES,
        TaskStatus.REGISTERED,
    }
)
"""After which an engine has an attempt no more."""
REMOVED = "the swarm was deleted"


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """The attempts of a batch, in little room."""

    task_ids: Int64s
    attempts: Int32s

    @classmethod
    def of(cls, batch: Batch) -> "Keys":
        return cls(batch.task_ids, batch.attempts)

    def pairs(self) -> list[Key]:
        return list(zip(self.task_ids.tolist(), self.attempts.tolist(), strict=True))


@dataclass(eq=False)
class RemoteSwarm:
    """One swarm whose tasks run at an engine."""

    info: SwarmInfo
    wire_id: str
    """What the engine knows it by: no other swarm of any daemon ever has it."""
    engine: "Engine"
    attempts: dict[int, int] = field(default_factory=dict)
    """The tasks that the engine has or may have, and which attempt of each."""
    is_removed: bool = False
    """It is gone; another one may have its id by now."""
    on_their_way: dict["asyncio.Future[None]", Batch] = field(default_factory=dict)
    """Batches that the engine is being called with; the future is done when that is over."""
    in_doubt: dict[str, "Keys"] = field(default_factory=dict)
    """Batches of which the engine has not said yet whether it has them, by their ids."""

    @property
    def is_durable(self) -> bool:
        """Whether it outlives the daemon."""
        return bool(self.info.token)

    def note(self, batch: Batch) -> None:
        """The engine has, or may have, all of it."""
        self.attempts.update(Keys.of(batch).pairs())

    def forget(self, task_ids: Iterable[int], attempts: Iterable[int]) -> None:
        """The engine has these attempts no more."""
        for task_id, attempt in zip(task_ids, attempts, strict=True):
            if self.attempts.get(task_id) == attempt:
                del self.attempts[task_id]

    def forget_ended(self, update: StateUpdate) -> None:
        """As news says."""
        for group in update.task_statuses.groups:
            if group.status in ENDS and group.attempts is not None:
                self.forget(group.task_ids.tolist(), group.attempts.tolist())


class Engine:
    """From `start` to `close`."""

    def __init__(
        self,
        options: EngineOptions,
        config: RemoteConfig,
        credentials: Credentials,
        *,
        bookmark: Bookmark,
        report: Report,
        is_elsewhere: Callable[[str], bool],
    ) -> None:
        """`bookmark` is loaded already; `is_elsewhere` says whether a swarm is at another engine."""
        self.address = str(options.address)
        self.options = options
        self.swarms: dict[str, RemoteSwarm] = {}
        """By wire id."""
        self._config = config
        self._report = report
        self._is_elsewhere = is_elsewhere
        self._complaints = Complaints(self.address)
        self._warned_of: set[str] = set()
        self._on_their_way: set[asyncio.Future[None]] = set()
        self.calls = EngineCalls(options, config, credentials)
        self.bookmark = bookmark
        self.cancels = Cancels(self.calls, self.address)
        self.watcher = Watcher(
            self.calls,
            self.bookmark,
            self._take,
            address=self.address,
            progress_interval=config.progress_interval,
        )

    def start(self) -> None:
        """Begin to listen."""
        self.watcher.start()

    @property
    def is_quiet(self) -> bool:
        """Whether no batch is on its way, and the engine has heard all that it is to end."""
        return not self._on_their_way and self.cancels.is_empty

    async def until_quiet(self) -> None:
        """Wait until it is: what comes of a batch on its way may have to be ended."""
        while not self.is_quiet:
            if self._on_their_way:
                await asyncio.wait(self._on_their_way)
            await self.cancels.until_empty()

    async def close(self) -> None:
        """Nothing is told or taken any more."""
        await self.watcher.close()
        await self.cancels.close()
        await self.bookmark.close()
        await self.calls.close()

    # -- swarms ------------------------------------------------------------------------------------------------------

    def add(self, swarm: RemoteSwarm) -> None:
        """News of it is passed on from now on."""
        self.swarms[swarm.wire_id] = swarm
        if swarm.is_durable and self.bookmark.add(swarm.wire_id):
            self.watcher.reopen()

    def drop(self, swarm: RemoteSwarm) -> None:
        """It is gone for good. Batches of it that are still on their way are ended when they have come there."""
        swarm.is_removed = True
        self.swarms.pop(swarm.wire_id, None)
        if swarm.is_durable:
            self.bookmark.drop(swarm.wire_id)

    def cancel(self, swarm: RemoteSwarm, keys: Sequence[Key], reason: str) -> "asyncio.Future[None]":
        """Have attempts ended; done when the engine has heard it."""
        swarm.forget((task_id for task_id, _ in keys), (attempt for _, attempt in keys))
        return self.cancels.order(swarm.wire_id, keys, reason)

    def untold(self, swarm: RemoteSwarm) -> list[Key]:
        """What the engine has not heard yet that it is to end, and what it may have to hear once more."""
        perhaps = [*map(Keys.of, swarm.on_their_way.values()), *swarm.in_doubt.values()]
        return list(
            dict.fromkeys([*self.cancels.of(swarm.wire_id), *(key for keys in perhaps for key in keys.pairs())])
        )

    def unsettled(self, swarm: RemoteSwarm) -> list[str]:
        """The batches of a swarm that the engine may have, or may get yet."""
        return [*swarm.in_doubt, *(batch.batch_id for batch in swarm.on_their_way.values())]

    async def until_told(self, swarm: RemoteSwarm) -> bool:
        """Wait until there is nothing left to be told of a swarm that is gone; False when it is given up before.

        What was said of a batch before the engine had it would not have been heard: such a batch is asked after, and
        then it is said again.
        """
        over = asyncio.get_running_loop().create_future()
        self._on_their_way.add(over)
        since = time.time()
        try:
            while True:
                if swarm.on_their_way:
                    await asyncio.wait(swarm.on_their_way)
                if not await self.cancels.until_heard(swarm.wire_id):
                    return False
                if not self.unsettled(swarm):
                    return True
                for batch_id, keys in list(swarm.in_doubt.items()):
                    await self.calls.settled(swarm.wire_id, batch_id, until=since + GIVE_UP_SECONDS)
                    del swarm.in_doubt[batch_id]
                    self.cancel(swarm, keys.pairs(), REMOVED)
        finally:
            self._on_their_way.discard(over)
            over.set_result(None)

    # -- batches -----------------------------------------------------------------------------------------------------

    async def queue(self, swarm: RemoteSwarm, batch: Batch) -> QueueOutcome | None:
        """Raises BatchRefusedError or OutcomeUnknownError."""
        over = asyncio.get_running_loop().create_future()
        self._on_their_way.add(over)
        swarm.on_their_way[over] = batch
        try:
            return await self._queue(swarm, batch)
        finally:
            self._on_their_way.discard(over)
            del swarm.on_their_way[over]
            over.set_result(None)

    async def _queue(self, swarm: RemoteSwarm, batch: Batch) -> QueueOutcome | None:
        await self._until_ready(swarm)
        if swarm.is_removed:
            raise BatchRefusedError(REMOVED)
        request, not_sent = queue_request(swarm.wire_id, swarm.info, batch)
        swarm.note(batch)  # before the call: news may overtake the answer
        try:
            answer = await self.calls.queue_batch(request)
        except BatchRefusedError:
            self._forget(swarm, batch)
            raise
        except OutcomeUnknownError:
            swarm.in_doubt[batch.batch_id] = Keys.of(batch)
            self._end_of_removed(swarm, batch)
            raise
        except asyncio.CancelledError:
            swarm.in_doubt[batch.batch_id] = Keys.of(batch)
            raise
        self._end_of_removed(swarm, batch)
        refusals = refusals_of(answer.refusals, batch, not_sent)
        for refusal in refusals:
            self._forget(swarm, batch, refusal.task_ids)
        return QueueOutcome(refusals) if refusals else None

    async def find(self, swarm: RemoteSwarm, batch: Batch) -> FindOutcome:
        """What became of a batch in doubt, as far as the engine can be asked."""
        swarm.note(batch)
        swarm.in_doubt[batch.batch_id] = Keys.of(batch)
        try:
            answer = await self.calls.find_batch(swarm.wire_id, batch.batch_id)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                await self.calls.refresh_token()
            log.info(
                "the engine at %s cannot be asked after batch %s: %s", self.address, batch.batch_id, described(error)
            )
            return FindOutcome(Found.UNKNOWN)
        if answer.outcome not in SETTLED:
            return FindOutcome(Found.UNKNOWN)
        if not swarm.is_removed:  # else `until_told` asks after it, and ends it
            swarm.in_doubt.pop(batch.batch_id, None)
        if answer.outcome == pb.FindBatchResponse.OUTCOME_NOT_QUEUED:
            self._forget(swarm, batch)
            return FindOutcome(Found.NOT_QUEUED)
        refusals = refusals_of(answer.refusals, batch, left_out(batch))
        for refusal in refusals:
            self._forget(swarm, batch, refusal.task_ids)
        return FindOutcome(Found.QUEUED, refusals)

    def _end_of_removed(self, swarm: RemoteSwarm, batch: Batch) -> None:
        """What came to the engine, or may have, after its swarm was removed is ended. Raises BatchRefusedError then."""
        if swarm.is_removed:
            self.cancel(swarm, Keys.of(batch).pairs(), REMOVED)
            raise BatchRefusedError(REMOVED)

    def _forget(self, swarm: RemoteSwarm, batch: Batch, task_ids: Iterable[int] | None = None) -> None:
        named = None if task_ids is None else set(task_ids)
        gone = [pair for pair in Keys.of(batch).pairs() if named is None or pair[0] in named]
        swarm.forget((task_id for task_id, _ in gone), (attempt for _, attempt in gone))

    async def _until_ready(self, swarm: RemoteSwarm) -> None:
        """Wait until a batch may be sent: connected, and all that happens to it will be heard of.

        Raises BatchRefusedError when that takes too long.
        """
        patience = self._patience()
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                if not await self.calls.is_connected(patience):
                    raise BatchRefusedError(self.unreachable())
                await self.watcher.is_established.wait()
                if swarm.is_durable:
                    await self.bookmark.until_kept(swarm.wire_id)
        except TimeoutError:
            raise BatchRefusedError(self.unreachable()) from None
        except OSError as error:
            message = f"how far the news of the engine was read cannot be written down ({error}); make room for it"
            raise BatchRefusedError(message) from error

    def _patience(self) -> float:
        """How long a connection is waited for: not again and again for an engine that is known to be away."""
        patience = self._config.connect_timeout
        away = time.time() - self.watcher.trouble_since if self.watcher.trouble else 0.0
        return min(patience, max(0.0, patience - away))

    # -- news --------------------------------------------------------------------------------------------------------

    def _take(self, message: pb.WatchUpdatesResponse) -> list[Written]:
        """Pass news on to its swarm. What is about no swarm of this engine is nobody's: others may share it."""
        if not message.swarm_id or not message.HasField("update"):
            return []
        swarm = self.swarms.get(message.swarm_id)
        if swarm is None:
            if self.bookmark.is_expected(message.swarm_id):
                self.bookmark.pass_over(message.swarm_id)
            elif self._is_elsewhere(message.swarm_id) and message.swarm_id not in self._warned_of:
                self._warned_of.add(message.swarm_id)
                what = "the engine at %s tells of swarm %s, which is at another engine: it is not listened to"
                log.warning(what, self.address, message.swarm_id)
            return []
        written: list[Written] = []
        try:
            for update in news_of(message.update, self._complaints):
                self._leave_out_never_given(swarm, update)
                swarm.forget_ended(update)
                done = self._report(swarm.info.swarm_id, update)
                if done is not None:
                    written.append(done)
        except SwarmdError as error:
            self._complaints.about_news(error.message)
        return written

    def _leave_out_never_given(self, swarm: RemoteSwarm, update: StateUpdate) -> None:
        """An attempt beyond the one that the engine has of a task was given to nobody: it would pass for the next."""
        groups = update.task_statuses.groups
        for place, group in reversed(list(enumerate(groups))):
            if group.attempts is None:
                continue
            pairs = list(zip(group.task_ids.tolist(), group.attempts.tolist(), strict=True))
            given = [swarm.attempts.get(task_id, attempt) >= attempt for task_id, attempt in pairs]
            if all(given):
                continue
            strangers = (task_id for (task_id, _), known in zip(pairs, given, strict=True) if not known)
            self._complaints.about_news("it names attempts that this engine was not given", strangers)
            rows = np.flatnonzero(given)
            groups[place] = StatusGroup(group.status, group.task_ids[rows], group.attempts[rows], group.reason)

    # -- for people --------------------------------------------------------------------------------------------------

    def trouble(self) -> str:
        """Why nothing is heard of it; empty while it is heard."""
        return self.unreachable() if self.watcher.trouble else ""

    def unreachable(self) -> str:
        """That it cannot be reached, since when and why."""
        watcher = self.watcher
        if watcher.trouble:
            since = _clock(watcher.trouble_since)
            return f"the engine at {self.address} cannot be reached since {since}: {watcher.trouble}"
        if not watcher.heard_at:
            return f"the engine at {self.address} has not been heard of yet"
        return f"the engine at {self.address} takes no connection"

    def standing(self, swarm: RemoteSwarm, task_id: int, attempt: int) -> str:
        """What is known of an attempt."""
        if self.watcher.trouble:
            return self.unreachable()
        if swarm.attempts.get(task_id) != attempt:
            return ""
        heard = f", last heard of at {_clock(self.watcher.heard_at)}" if self.watcher.heard_at else ""
        return f"at the engine at {self.address}{heard}"


def _clock(at: float) -> str:
    local = time.localtime(at)
    today = time.strftime("%Y-%m-%d", local) == time.strftime("%Y-%m-%d")
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", local)
