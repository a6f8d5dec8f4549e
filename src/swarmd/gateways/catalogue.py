"""Which gateways there are: those of the package, and those that other packages add by an entry point.

A gateway is made by a factory that takes a `GatewayContext`: a subclass of `ServerGateway` with such a constructor, or
a function. Factories are imported when a daemon starts, so they should be light; what is heavy belongs into `start`.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from swarmd.config import DaemonConfig
from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError
from swarmd.gateways.contract import BatchRefusedError, QueueOutcome, ServerGateway, SwarmInfo

GROUP = "swarmd.gateways"
"""The entry-point group of gateways that other packages bring."""

Options = TypeVar("Options", bound=BaseModel)

BUILT_IN = {
    "local": "swarmd.gateways.local:made",
    "pull": "swarmd.gateways.pull:made",
    "slurm": "swarmd.gateways.slurm:made",
    "jobmon": "swarmd.gateways.jobmon:made",
    "remote": "swarmd.gateways.remote:made",
}
"""Name -> module:factory."""
ALWAYS = ("local", "pull")
"""Those that are made with the daemon."""
LEFT = ".left"
"""How the names of files end, in a gateway's folder of the state directory, for which it is made with the daemon: what
an earlier one has left to be done, though no swarm names it any more."""


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What the daemon's own options say about processes of this machine."""

    cores: int | None = None
    memory_mib: int | None = None
    kill_grace: float = 5.0
    leave_on_close: bool = False


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """What a gateway is made with."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its section of the config file, [gateways.NAME]."""
    source: str = ""
    """The file that they are from, for messages."""
    state_directory: Path = Path()
    """The daemon's. A gateway that keeps something there uses a folder of its own name."""
    log_directory: Path = Path()
    """Where the output of tasks goes (`swarmd.gateways.output`)."""
    local: LocalSettings = field(default_factory=LocalSettings)

    def read(self, model: type[Options]) -> Options:
        """The options as a pydantic model, which says names, types and bounds. Raises InvalidInputError."""
        try:
            return model.model_validate(dict(self.options))
        except ValidationError as error:
            raise self._wrong(error, model) from None

    def _wrong(self, error: ValidationError, model: type[BaseModel]) -> InvalidInputError:
        first = error.errors(include_url=False)[0]
        where = f"{self.source or 'config'}: [gateways.{self.name}]"
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            close = difflib.get_close_matches(place, list(model.model_fields), n=1)
            known = ", ".join(model.model_fields)
            remedy = f"did you mean {close[0]!r}?" if close else f"there are {known}" if known else "it has none"
            message = f"{where} {place} is no option of this gateway; {remedy}"
        elif not place:  # about the section as a whole, which may hold what is not to be shown
            words = first["msg"].removeprefix("Value error, ")
            return InvalidInputError(f"{where}: {words}", reason="INVALID_SETTINGS", field=f"gateways.{self.name}")
        else:
            words = first["msg"].removeprefix("Value error, ")
            message = f"{where} {place}: {words[:1].lower()}{words[1:]}; it is {first['input']!r}"
        return InvalidInputError(message, reason="INVALID_SETTINGS", field=f"gateways.{self.name}.{place}")


Factory = Callable[[GatewayContext], ServerGateway]


class BrokenGateway(ServerGateway):
    """In the place of one that could not be made: it says why, and takes nothing."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self._why = why

    async def trouble(self) -> str:
        return self._why

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        """One of an earlier daemon: it waits for a gateway that can be used."""

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        del batch
        raise BatchRefusedError(self._why)


class Gateways(MutableMapping[str, ServerGateway]):
    """Gateways by name. Some are made when they are first looked at: their modules take time and memory."""

    def __init__(
        self,
        made: Mapping[str, ServerGateway] | None = None,
        makers: Mapping[str, Callable[[], ServerGateway]] | None = None,
    ) -> None:
        self._made = dict(made or {})
        self._makers = dict(makers or {})

    def __getitem__(self, name: str) -> ServerGateway:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __setitem__(self, name: str, gateway: ServerGateway) -> None:
        self._made[name] = gateway

    def __delitem__(self, name: str) -> None:
        self._makers.pop(name, None)
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._makers, *self._made)))  # in the same order whichever of them are made

    def __len__(self) -> int:
        return len(self._made.keys() | self._makers.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._made or name in self._makers

    @property
    def made(self) -> dict[str, ServerGateway]:
        """Those that there are already."""
        return dict(self._made)


def made_gateways(config: DaemonConfig, source: str = "") -> Gateways:
    """Every gateway of a daemon with these settings, by name, not started. `source`: where the sections are from.

    Raises InvalidInputError for options that cannot be used. One of another package that cannot be imported or made is
    there all the same, and says why it is of no use. Those of this package that have no section, and nothing left from
    before, are made when needed.
    """
    added = dict(_added())
    _check_sections(config.gateways, [*BUILT_IN, *added], source)
    local = LocalSettings(config.local_cores, config.local_memory_mib, config.kill_grace, config.leaves_tasks)

    def context(name: str) -> GatewayContext:
        section = config.gateways.get(name, {})
        return GatewayContext(name, section, source, config.state_dir, config.state_dir / "logs", local)

    makers = {name: partial(_built_in, context(name)) for name in BUILT_IN}
    needed = {*ALWAYS, *config.gateways, *(name for name in makers if any((config.state_dir / name).glob(f"*{LEFT}")))}
    made = {name: make() for name, make in makers.items() if name in needed}
    return Gateways(made | {name: _made(entry, context(name)) for name, entry in added.items()}, makers)


def _built_in(context: GatewayContext) -> ServerGateway:
    return _factory(BUILT_IN[context.name])(context)


def _check_sections(sections: Iterable[str], known: list[str], source: str) -> None:
    for name in sections:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"
            message = f"{source or 'config'}: [gateways.{name}] is about no gateway; {remedy}"
            raise InvalidInputError(message, reason="INVALID_SETTINGS", field=f"gateways.{name}")


def _added() -> Iterator[tuple[str, EntryPoint]]:
    """Those of other packages. The names of the package's own are not theirs to take."""
    for entry in entry_points(group=GROUP):
        if entry.name not in BUILT_IN:
            yield entry.name, entry


def _factory(place: str) -> Factory:
    module, _, name = place.partition(":")
    factory: Factory = getattr(import_module(module), name)
    return factory


def _made(entry: EntryPoint, context: GatewayContext) -> ServerGateway:
    try:
        gateway = entry.load()(context)
    except InvalidInputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a stranger's package raises must not keep the daemon down
        return BrokenGateway(entry.name, f"{entry.value} cannot be used: {type(error).__name__}: {error}")
    if not isinstance(gateway, ServerGateway):
        return BrokenGateway(entry.name, f"{entry.value} made a {type(gateway).__name__}, which is no ServerGateway")
    gateway.name = gateway.name or entry.name
    return gateway
