"""`swarmd serve`: the daemon. `swarmd config`: its settings, and where each comes from."""

import json
from typing import Any

import typer

from swarmd.cli import options
from swarmd.cli.serving import serve as serve_with
from swarmd.cli.settings import resolved, takes_settings


@takes_settings
def serve(**given: Any) -> None:
    """Serve until it is stopped; SIGTERM and Ctrl-C drain first, a second one ends it at once.

    What is not given here is taken from the environment (SWARMD_LOCAL_CORES for --local-cores, and so on), then from a
    file, then from the defaults; `swarmd config` shows what that comes to. SIGHUP loads tokens and certificates again.
    """
    raise typer.Exit(serve_with(given))


@takes_settings
def config(*, json_output: options.Json = False, **given: Any) -> None:
    """Show the settings that `serve` with the same options would have here, and where each comes from."""
    settings = resolved(given)
    from swarmd.cli.output import Column, print_json, print_table
    from swarmd.gateways.catalogue import made_gateways

    made_gateways(settings.config, settings.sources["gateways"])  # which refuses what `serve` would refuse

    values = settings.config.model_dump(mode="json")
    if json_output:
        print_json({name: {"value": value, "source": settings.sources[name]} for name, value in values.items()})
        return
    rows = [(name, _shown(value), settings.sources[name]) for name, value in values.items()]
    print_table([Column("setting"), Column("value", wide=True), Column("from", wide=True)], rows)


def _shown(value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "; ".join(f"[{name}] {json.dumps(section)}" for name, section in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
