"""What a hosted swarm asks of a journal, and the journal that writes nothing down."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from swarmd.core.errors import SwarmdError
from swarmd.core.events import Event

T = TypeVar("T")

Apply = Callable[[], T | Coroutine[Any, Any, T]]
"""Applies an event, at once or in steps."""


class Journal(Protocol):
    """Where a hosted swarm writes its events down before they are applied."""

    durable: bool
    """Whether they outlive the daemon."""
    in_trouble: asyncio.Event
    """Set while nothing can be written down."""

    @property
    def trouble(self) -> SwarmdError | None:
        """Why nothing can be written down now; None when all is well."""

    def append(
        self,
        event: Event,
        at: float,
        apply: Callable[[], T | Coroutine[Any, Any, T]],
        *,
        must: bool = False,
        first: bool = False,
        encoded: bytes | None = None,
    ) -> "asyncio.Future[T]":
        """Write an event down, then apply it. Done with what `apply` returned, when it was applied.

        Fails with StorageError when it cannot be written down; then nothing was applied. An event that `must` is what
        happened already: it is tried until it is written. One that goes `first` overtakes what waits to be written: for
        what depends on nothing that waits. `apply` may give a coroutine; whatever comes next waits
        for it.
        """

    def reserve(
        self,
        take: Callable[[], Sequence[tuple[Event, T]]],
        undo: Callable[[T], None],
        at: float,
        apply: Callable[[Event], object] | None = None,
    ) -> "asyncio.Future[list[T]]":
        """Let `take` change the swarm when nothing that was written waits to be applied, and write down what it did.

        Done with what it took, when that is on disk and each event was given to `apply`. Fails with StorageError when
        it cannot be; then everything was undone, the last first.
        """

    def without_snapshots(self) -> "contextlib.AbstractContextManager[None]":
        """No snapshot is made meanwhile."""

    def count(self, size: int, seconds: float) -> None:
        """So many bytes were there already since the last snapshot, and took so long to apply again."""

    async def close(self) -> None:
        """Write what waits, and end."""


class MemoryJournal:
    """Writes nothing down."""

    durable = False
    trouble: SwarmdError | None = None

    def __init__(self) -> None:
        self.in_trouble = asyncio.Event()

    def append(
        self,
        event: Event,
        at: float,
        apply: Callable[[], T | Coroutine[Any, Any, T]],
        *,
        must: bool = False,
        first: bool = False,
        encoded: bytes | None = None,
    ) -> "asyncio.Future[T]":
        del event, at, must, first, encoded
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        result: Any = apply()
        if inspect.iscoroutine(result):
            return asyncio.ensure_future(result)
        done.set_result(result)
        return done

    def reserve(
        self,
        take: Callable[[], Sequence[tuple[Event, T]]],
        undo: Callable[[T], None],
        at: float,
        apply: Callable[[Event], object] | None = None,
    ) -> "asyncio.Future[list[T]]":
        del undo, at
        done: asyncio.Future[list[T]] = asyncio.get_running_loop().create_future()
        taken = take()
        if apply is not None:
            for event, _ in taken:
                apply(event)
        done.set_result([what for _, what in taken])
        return done

    @contextlib.contextmanager
    def without_snapshots(self) -> Iterator[None]:
        yield

    def count(self, size: int, seconds: float) -> None:
        del size, seconds

    async def close(self) -> None:
        return
