"""Which measurements there are, in the order in which they are made."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.suite import calls, life, limits, makespan, processes, starting, ticks, watching
from benchmarks.suite.results import Results
from benchmarks.suite.setting import Setting


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement: its name, for `--only`, and what makes its rows."""

    name: str
    measure: Callable[[Results, Setting], None]


ALL = (
    Measurement("tick", ticks.one_tick),
    Measurement("growth", ticks.growth),
    Measurement("life", life.whole_life),
    Measurement("has-work", calls.has_work),
    Measurement("updates", calls.updates),
    Measurement("pull", calls.pulled_ticks),
    Measurement("engine", ticks.slow_engine),
    Measurement("steady", ticks.steady_state),
    Measurement("watchers", watching.delays),
    Measurement("programs", processes.programs),
    Measurement("makespan", makespan.recorded_workflows),
    Measurement("starts", starting.starts),
    Measurement("commits", limits.commits),
    Measurement("copies", limits.copies),
)


def chosen(names: str) -> list[Measurement]:
    """Those that are named, separated by commas; all when nothing is. Raises ValueError for a name that is none."""
    known = {each.name: each for each in ALL}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"--only: {', '.join(unknown)}: there is no such measurement; there are {', '.join(known)}")
    return [known[name] for name in wanted] if wanted else list(ALL)
