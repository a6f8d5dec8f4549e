"""The messages of a streamed request, and why a call was cancelled: gRPC tells little of either."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Generic, TypeVar

from swarmd.client.messages import UNFIT, unfit

T = TypeVar("T")


class Streamed(Generic[T]):
    """The messages of a request, as they are made. An error of their making is kept: gRPC just cancels the call."""

    def __init__(self, messages: Iterable[T]) -> None:
        self._messages = messages
        self._error: Exception | None = None

    async def each(self) -> AsyncIterator[T]:
        """One after the other; other tasks run meanwhile."""
        try:
            for message in self._messages:
                yield message
                await asyncio.sleep(0)
        except Exception as error:
            self._error = error
            raise

    def tell_error(self) -> None:
        """Raise what ended the messages, unless whoever waits for the call is cancelled, too."""
        if self._error is None or is_wanted_cancelled():
            return
        if isinstance(self._error, UNFIT):
            raise unfit("", "what is to be loaded", self._error) from self._error
        raise self._error


def is_wanted_cancelled() -> bool:
    """Whether somebody has cancelled the task that runs, and not just the call that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
