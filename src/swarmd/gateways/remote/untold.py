"""What an engine is still to be told of swarms that were deleted while it was away: which attempts it is to end.

Nobody else knows of them any more, so each such swarm has a file here until its engine has heard it, or a day is over.
A gateway that starts tells what earlier ones left; the catalogue makes it with the daemon when there are such files.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from swarmd.core.errors import InvalidInputError
from swarmd.gateways.catalogue import LEFT
from swarmd.gateways.left import write_whole
from swarmd.gateways.remote.calls import EngineCalls
from swarmd.gateways.remote.cancelling import GIVE_UP_SECONDS, Cancels, Key
from swarmd.gateways.remote.options import EngineOptions, RemoteConfig, engine_options

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""Between two looks at files that an engine is to be called with: a token, a certificate."""


@dataclass(frozen=True, slots=True)
class Untold:
    """One swarm that is gone, and what its engine must hear."""

    wire_id: str
    options: Mapping[str, str]
    """How the engine is called, as `gateway_options` say it."""
    reason: str
    attempts: Sequence[Key]
    since: float
    """Seconds since the epoch."""
    batches: Sequence[str] = ()
    """Those that the engine had not answered for: it may get one of them after it has heard what it is to end."""


class UntoldFiles:
    """Those of a folder. What an earlier daemon left is told from `start` to `close`."""

    def __init__(self, folder: Path, config: RemoteConfig) -> None:
        self._folder = folder
        self._config = config
        self._telling: list[asyncio.Task[None]] = []

    async def keep(self, untold: Untold) -> None:
        """Write it down. When that cannot be, the log says what it means."""
        try:
            await asyncio.to_thread(_write, self._path(untold.wire_id), untold)
        except OSError as error:
            what = "what the engine at %s is to end of %s cannot be written down (%s): it runs on if the daemon ends"
            log.warning(what, untold.options["address"], untold.wire_id, error)

    async def forget(self, wire_id: str) -> None:
        """It was told, or there is no use in telling it."""
        try:
            await asyncio.to_thread(self._path(wire_id).unlink, missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed: %s; the next daemon tells it once more", self._path(wire_id), error)

    def _path(self, wire_id: str) -> Path:
        return self._folder / (sha256(wire_id.encode(errors="surrogatepass")).hexdigest()[:32] + LEFT)

    # -- what an earlier daemon left ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to tell it."""
        for untold in await asyncio.to_thread(_read_all, self._folder):
            self._telling.append(asyncio.create_task(self._tell(untold), name=f"end what is left of {untold.wire_id}"))

    async def close(self) -> None:
        """What was not heard is left to the next daemon."""
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _tell(self, untold: Untold) -> None:
        while time.time() - untold.since < GIVE_UP_SECONDS:
            try:
                await self._told(untold)
            except (InvalidInputError, OSError) as error:
                what = "the engine at %s, which is to end what is left of swarm %s, cannot be called: %s"
                log.warning(what, untold.options.get("address"), untold.wire_id, error)
            except Exception:
                log.exception("an engine cannot be told what is left of swarm %s", untold.wire_id)
            else:
                break
            await asyncio.sleep(RETRY_SECONDS)
        else:
            what = "%d tasks of swarm %s, which is gone, may run on at the engine at %s: it was not there for a day"
            log.warning(what, len(untold.attempts), untold.wire_id, untold.options.get("address"))
        await self.forget(untold.wire_id)

    async def _told(self, untold: Untold) -> None:
        """Returns when the engine has heard it. Raises InvalidInputError when it cannot be called."""
        options = engine_options(untold.options, RemoteConfig())
        calls = EngineCalls(options, self._config, await asyncio.to_thread(options.loaded))
        cancels = Cancels(calls, str(options.address))
        try:
            await cancels.order(untold.wire_id, untold.attempts, untold.reason, since=untold.since)
            for batch_id in untold.batches:
                await calls.settled(untold.wire_id, batch_id, until=untold.since + GIVE_UP_SECONDS)
            if untold.batches:
                await cancels.order(untold.wire_id, untold.attempts, untold.reason, since=untold.since)
        finally:
            await cancels.close()
            await calls.close()


def spelt_out(options: EngineOptions) -> dict[str, str]:
    """Options of a swarm with which the same engine is called in the same way, whatever the config file says then."""
    given = {"address": str(options.address)}
    paths = {name: getattr(options, name) for name in ("tls_ca", "tls_cert", "tls_key", "token_file")}
    given |= {name: str(path) for name, path in paths.items() if path is not None}
    given |= {name: "true" for name in ("tls", "insecure") if getattr(options, name)}
    return given | ({"tls_server_name": options.tls_server_name} if options.tls_server_name else {})


def _write(path: Path, untold: Untold) -> None:
    told = {name: getattr(untold, name) for name in ("wire_id", "options", "reason", "attempts", "since", "batches")}
    write_whole(path, json.dumps(told))


def _read_all(folder: Path) -> list[Untold]:
    found = [_read(path) for path in sorted(folder.glob(f"*{LEFT}"))]
    return [untold for untold in found if untold is not None]


def _read(path: Path) -> Untold | None:
    try:
        found = json.loads(path.read_text())
        attempts = [(int(task_id), int(attempt)) for task_id, attempt in found["attempts"]]
        options = {str(name): str(value) for name, value in found["options"].items()}
        batches = [str(batch_id) for batch_id in found["batches"]]
        return Untold(str(found["wire_id"]), options, str(found["reason"]), attempts, float(found["since"]), batches)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = "%s cannot be read (%s): tasks of a deleted swarm may run on at its engine; look there, and remove it"
        log.warning(what, path, error)
        return None
