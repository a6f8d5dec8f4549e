"""Turns in loops over very many elements: the event loop is held for a few milliseconds at a time, however many."""

import asyncio

SLICE_SECONDS = 0.003
"""How long the loop may be held before others have their turn."""


class Turns:
    """Asked in every round of a loop: `if turns.is_over: await turns.pass_on()`."""

    def __init__(self) -> None:
        self._time = asyncio.get_running_loop().time
        self._until = self._time() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        return self._time() > self._until

    async def pass_on(self) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)
        self._until = self._time() + SLICE_SECONDS
