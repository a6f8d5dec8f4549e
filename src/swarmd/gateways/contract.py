"""The contract between the scheduler and an engine.

A gateway takes batches and reports what happens to their tasks. It knows the core's values and nothing above: not the
scheduler, not gRPC. One gateway serves all swarms that name it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmd.core.batch import MAX_BATCH_SIZE, Batch
from swarmd.core.errors import InvalidInputError
from swarmd.core.update import StateUpdate

if TYPE_CHECKING:
    import asyncio

Report = Callable[[str, StateUpdate], "asyncio.Future[Any] | None"]
"""Takes news of a swarm: report(swarm_id, update). Called in the event loop's thread; never blocks, never raises.

What it gives back is done when the news is as durable as the swarm is: for gateways whose engine may forget what it has
told only then. It fails when the daemon ends before. None: nobody wants that news.
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Tasks of a batch that the engine did not take."""

    task_ids: Sequence[int]
    reason: str
    permanent: bool = False
    """They can never run here: they become ERROR_FATAL instead of coming back."""


@dataclass(frozen=True, slots=True)
class QueueOutcome:
    """What the engine did with a batch: it took every task that is not among the refusals."""

    refusals: Sequence[Refusal] = ()


class Found(Enum):
    """What an engine says of a batch that is in doubt."""

    QUEUED = auto()
    NOT_QUEUED = auto()
    """It was not taken and will not be."""
    UNKNOWN = auto()
    """It cannot say yet; ask again."""


@dataclass(frozen=True, slots=True)
class FindOutcome:
    """The answer about a batch that is in doubt."""

    found: Found
    refusals: Sequence[Refusal] = ()
    """With QUEUED: the tasks of it that were not taken."""


class BatchRefusedError(Exception):
    """The engine took nothing of the batch, for certain. The tasks come back and wait for a later tick."""


class OutcomeUnknownError(Exception):
    """Nobody knows whether the engine took the batch. It is in doubt until `find_batch` or news says."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a gateway can do."""

    largest_batch: int = MAX_BATCH_SIZE
    can_find: bool = False
    """`find_batch` works. Only then does an exception from `queue_batch` that says nothing put a batch in doubt."""
    can_cancel: bool = False
    """`cancel_tasks` reaches tasks that the engine has."""
    hands_out: bool = False
    """The caller of Tick runs the batches (the pull gateway): the daemon hands them out and calls no `queue_batch`."""


@dataclass(frozen=True, slots=True)
class SwarmInfo:
    """What a gateway may want to know of a swarm before its first batch."""

    swarm_id: str
    working_directory: Path | None = None
    """Where commands start, for gateways that run them on this machine; None: the daemon's own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of every command, likewise."""
    token: str = ""
    """Tells this swarm from others that had its id before. Empty: it lives in memory, and ends with the daemon."""
    options: Mapping[str, str] = field(default_factory=dict)
    """`Swarm.gateway_options`: what this swarm in particular asks of its gateway, which checks them in `add_swarm`."""


class ServerGateway(ABC):
    """The way to one engine. A subclass needs `queue_batch`; everything else has a default that does nothing.

    `swarmd.testing` has the tests of what is promised here.

    `queue_batch` may run several times at once. An exception from it means:
    - `BatchRefusedError`: nothing was queued; the tasks come back.
    - `OutcomeUnknownError`, a timeout, or a cancellation: the batch is in doubt.
    - anything else: in doubt when the gateway `can_find`; otherwise the gateway promises that a call which raised has
      queued nothing, and the tasks come back.
    """

    name = ""
    capabilities = Capabilities()

    async def trouble(self) -> str:
        """Why it cannot be used here, in words that say what to do about it; empty when it can.

        May be asked before `start`, and at any time. Swarms that would need it are refused with these words.
        """
        return ""

    async def obstacle(self) -> str:
        """Why nothing can be queued at this moment although it can be used here: its engine does not answer, say.

        For `swarmd gateways`. May be asked before `start`, and may take some seconds. Swarms are taken all the same;
        what they have waits.
        """
        return ""

    def swarm_trouble(self, swarm_id: str) -> str:
        """What is the matter with the engine of a swarm just now, in words; empty when nothing is known to be.

        Answered at once, from what is known: it is shown with the swarm.
        """
        del swarm_id
        return ""

    async def start(self, report: Report) -> None:
        """Begin. News goes to `report` from now until `close`."""

    async def close(self) -> None:
        """End; nothing is reported any more."""

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        """Batches of this swarm may come, and none before. Called again when something of it changed.

        Raises InvalidInputError for options of the swarm that cannot be used; the swarm is not created then. What it
        raises when a daemon takes up an old swarm is logged, and it is called again until it does not. By default a
        gateway knows no options, and refuses all.
        """
        for name in swarm.options:
            what = f"{name!r} is no option of gateway {self.name!r}, which has none; leave it out"
            raise InvalidInputError(f"swarm.gateway_options: {what}", field="swarm.gateway_options")

    async def swarm_finished(self, swarm_id: str, *, succeeded: bool) -> None:
        """Nothing of the swarm is ready, active or in doubt any more; `succeeded` when every task is DONE.

        Called again after a restart, and when a swarm that went on is finished once more.
        """

    def standing(self, swarm_id: str, task_id: int, attempt: int) -> str:
        """What the engine says of an attempt that it has, for people: where it is, and what it waits for.

        Asked also of tasks that wait because their run is not RUNNING: then why that is so, if the engine knows.
        Answers at once, from what is known; empty when there is nothing to say.
        """
        del swarm_id, task_id, attempt
        return ""

    def output_directory(self, swarm_id: str) -> Path | None:
        """Where on this machine the output of a swarm's tasks is, in the layout of `gateways.output`; None: nowhere."""
        del swarm_id
        return None

    async def remove_swarm(self, swarm_id: str) -> None:
        """The swarm is gone; its tasks are to be ended. Soon nobody else knows of them.

        They should be over on return. What an engine that is away has not heard by then is to be on disk
        (`gateways.left`), so that it is told also by the next daemon.
        """

    @abstractmethod
    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        """Hand a batch to the engine; `batch.tasks()` says what to run. None: every task was taken.

        A batch of a swarm that it was not told of, or after `close`, is refused.
        """

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        """After a restart of the daemon, once for each swarm, after `add_swarm`: what the engine was given before it.

        The attempts are those that the state says are queued or further (batches in doubt are not among them: these are
        asked after with `find_batch`). They come grouped by array and resources, in groups of any size, with an empty
        `batch_id`. What became of them meanwhile is reported like any news. Of the cancel of those in `cancelled` the
        engine may not have heard: it is to end what is left of them in silence. A gateway that raises is called again.
        """
        del batches, cancelled

    async def find_batch(self, batch: Batch) -> FindOutcome:
        """What became of a batch whose outcome is in doubt. An earlier daemon may have begun to queue it."""
        del batch
        return FindOutcome(Found.UNKNOWN)

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        """End these attempts. Those that are over are no error; nothing is reported of those that are ended."""
