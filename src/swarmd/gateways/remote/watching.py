"""The stream of an engine's news: kept open, opened again after a loss, and given up when it shows no sign of life."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

import grpc
import grpc.aio

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd.gateways.remote.bookmark import Bookmark, Written
from swarmd.gateways.remote.calls import EngineCalls, NewsCall, described

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
SIGNS_MISSED = 3
"""So many signs of life may be late before the stream counts as lost."""
LEAST_PATIENCE_SECONDS = 1.0
OTHERS_TURN_AFTER = 20
"""Messages that are taken before others have their turn, though many wait."""
UNKNOWN_TOKEN = frozenset({grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND})
"""How an engine says that it cannot go on after a resume token."""

TakeNews = Callable[[pb.WatchUpdatesResponse], list[Written]]
"""Passes a message on; gives back what is done when it is durable."""


class Watcher:
    """Watches one engine from `start` to `close`."""

    def __init__(
        self, calls: EngineCalls, bookmark: Bookmark, take: TakeNews, *, address: str, progress_interval: float
    ) -> None:
        self.trouble = ""
        """Why nothing is heard of the engine; empty while its stream is open."""
        self.trouble_since = time.time()
        self.heard_at = 0.0
        """When it last gave a sign of life, in seconds since the epoch."""
        self.is_established = asyncio.Event()
        """The place from which news is read is known: whatever happens to a batch from now on will be heard of."""
        self._calls = calls
        self._bookmark = bookmark
        self._take = take
        self._address = address
        self._patience = max(LEAST_PATIENCE_SECONDS, SIGNS_MISSED * progress_interval)
        self._call: NewsCall | None = None
        self._running: asyncio.Task[None] | None = None
        self._has_no_tokens = False
        self._is_reopened = False

    def start(self) -> None:
        """Begin, from where the bookmark says."""
        if self._bookmark.latest:
            self.is_established.set()
        self._running = asyncio.create_task(self._run(), name=f"watch {self._address}")

    def reopen(self) -> None:
        """Read again from where the bookmark says now."""
        self._is_reopened = True
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def close(self) -> None:
        """Nothing is taken any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            begun, self._is_reopened = time.time(), False
            why = await self._watch_until_lost()
            if self._is_reopened or self.heard_at > begun + LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS  # it was well for a while, not lost at once, again and again
            self._lost(why)
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - so that daemons do not come all at once
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            await self._calls.refresh_token()

    async def _watch_until_lost(self) -> str:
        """Take what comes until nothing does any more; gives back why."""
        token = self._bookmark.latest
        self._call = call = self._calls.watch_updates(token)
        try:
            await self._read(call)
        except TimeoutError:
            return f"no sign of life for {self._patience:g} s"
        except grpc.aio.AioRpcError as error:
            if token and error.code() in UNKNOWN_TOKEN:
                self._give_up_place(described(error))
            return described(error)
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            return "the stream was cut off"
        except Exception as error:
            log.exception("the stream of news from the engine at %s cannot be read", self._address)
            return f"{type(error).__name__}: {error}"
        finally:
            self._call = None
            call.cancel()
        return "the engine ended the stream"

    async def _read(self, call: NewsCall) -> None:
        count = 0
        while True:
            async with asyncio.timeout(self._patience):
                message = await call.read()
            if not isinstance(message, pb.WatchUpdatesResponse):
                return
            if call is not self._call:
                raise asyncio.CancelledError  # it was cut off with this message in hand: it comes again in its turn
            await self._taken(message)
            count += 1
            if count % OTHERS_TURN_AFTER == 0:
                await asyncio.sleep(0)

    async def _taken(self, message: pb.WatchUpdatesResponse) -> None:
        self.heard_at = time.time()
        if self.trouble or not self.is_established.is_set():
            self._found()
        written = self._take(message)
        await self._bookmark.passed(message.resume_token, written)
        if not (message.resume_token or self._bookmark.latest or self._has_no_tokens):
            self._has_no_tokens = True
            log.warning(
                "the engine at %s gives no resume tokens: what happens while the connection is lost is never heard of",
                self._address,
            )
        self.is_established.set()

    # -- how it does -------------------------------------------------------------------------------------------------

    def _found(self) -> None:
        log.info("the engine at %s is there", self._address)
        self.trouble = ""

    def _lost(self, why: str) -> None:
        if not self.trouble:
            self.trouble_since = time.time()
            log.warning("the engine at %s cannot be heard: %s; it is tried again", self._address, why)
        self.trouble = why
        if not self._bookmark.latest:
            self.is_established.clear()

    def _give_up_place(self, why: str) -> None:
        log.warning(
            "the engine at %s does not go on after the last news that was heard (%s): what happened since may be lost",
            self._address,
            why,
        )
        self._bookmark.latest = ""


def _is_being_cancelled() -> bool:
    """Whether somebody cancels us; otherwise a CancelledError is gRPC's word for a stream that was cut off."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
