"""`swarmd gateways`: the ways to engines that a daemon has here, and whether each can be used."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmd.cli import options

if TYPE_CHECKING:
    from swarmd.gateways.contract import ServerGateway

PATIENCE_SECONDS = 30.0
"""How long a gateway may take to say whether it can be used."""
CLOSING_SECONDS = 1.0


def gateways(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The daemon's config file, whose [gateways.NAME] count."),
    ] = None,
    json_output: options.Json = False,
) -> None:
    """List the engines that a daemon with this config file has here, whether each can be used, and why not.

    Needs no daemon, and asks none: one that was started with other settings, or in another environment, may have
    others. A swarm names its gateway when it is made: `swarmd run --gateway NAME`.
    """
    import asyncio

    from swarmd.cli.output import Column, note, print_json, print_table
    from swarmd.gateways.catalogue import made_gateways
    from swarmd.settings import resolve

    threads = set(threading.enumerate())
    settings = resolve({}, config=config)
    source = "" if settings.file is None else str(settings.file)
    found = asyncio.run(_looked_at(made_gateways(settings.config, source)))
    if json_output:
        print_json(found)
    else:
        columns = [Column("gateway"), Column("usable"), Column("", wide=True)]
        print_table(columns, [(each["name"], _yes(each["usable"]), each["trouble"] or each["about"]) for each in found])
        where = f"with {source}" if source else "without a config file"
        note(f"this is what a daemon that is started here has, {where}; one that runs with other settings may differ")
    _leave([each for each in threading.enumerate() if each not in threads and not each.daemon])


def _leave(threads: list[threading.Thread]) -> None:
    """Wait for none that hangs, as in a file system whose server is gone: the interpreter would, for ever."""
    until = time.monotonic() + CLOSING_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _looked_at(made: "Mapping[str, ServerGateway]") -> list[dict[str, Any]]:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    class Threads(ThreadPoolExecutor):
        """Nobody waits for them at the end."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT
            super().shutdown(wait=False, cancel_futures=cancel_futures)

    asyncio.get_running_loop().set_default_executor(Threads())
    return await asyncio.gather(*(_facts(name, gateway) for name, gateway in made.items()))


async def _facts(name: str, gateway: "ServerGateway") -> dict[str, Any]:
    import asyncio

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            trouble = await gateway.trouble() or await gateway.obstacle()
    except TimeoutError:
        trouble = f"it did not say within {PATIENCE_SECONDS:g} seconds whether it can be used"
    except Exception as error:  # noqa: BLE001 - a gateway of another package must not hide the others
        trouble = f"it cannot even say: {type(error).__name__}: {error}"
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSING_SECONDS):
            await gateway.close()
    able = gateway.capabilities
    return {
        "name": name,
        "usable": not trouble,
        "trouble": trouble,
        "about": (type(gateway).__doc__ or "").strip().split("\n")[0],
        "largest_batch": able.largest_batch,
        "can_find": able.can_find,
        "can_cancel": able.can_cancel,
        "hands_out": able.hands_out,
    }


def _yes(value: object) -> str:
    return "yes" if value else "no"
