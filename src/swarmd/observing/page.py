"""The page that Prometheus reads: every metric with its name and what it tells. docs/operating.md lists them.

The only module that needs prometheus_client, which is imported when somebody asks for metrics and not before.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import grpc
from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from swarmd._version import __version__
from swarmd.observing.metrics import Metrics
from swarmd.observing.standing import STATES, Overview, Sources, SwarmRow, overview
from swarmd.observing.tallies import Distribution, Distributions, Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Page:
    """Writes the page."""

    def __init__(self, metrics: Metrics, sources: Sources) -> None:
        self._metrics = metrics
        self._sources = sources
        self._process = ProcessCollector(registry=_Families(()))  # type: ignore[arg-type]

    def capture(self) -> Callable[[], bytes]:
        """What writes the numbers of this moment; the writing may take a while, and be done in another thread."""
        sources = self._sources
        counted = [*_counted(self._metrics), *_daemon(healthy=sources.healthy(), connections=sources.connections())]
        return partial(self._written, counted, overview(sources.swarms(), sources.set_aside()))

    def _written(self, counted: Sequence[Metric], standing: Overview) -> bytes:
        return generate_latest(_Families([*counted, *_standing(standing), *self._process.collect()]))


class _Families(Collector):
    """Metrics that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

    def register(self, collector: Collector) -> None:
        """A registry would keep it."""


def _daemon(*, healthy: bool, connections: int) -> Iterator[Metric]:
    labels = {"version": __version__, "python": platform.python_version(), "grpc": grpc.__version__}
    build = GaugeMetricFamily("swarmd_build_info", "Which version runs; always 1.", labels=list(labels))
    build.add_metric(list(labels.values()), 1)
    yield build
    yield GaugeMetricFamily(
        "swarmd_healthy",
        "1 while the health service says SERVING; 0 while the daemon reads its journals, cannot write one, or stops.",
        float(healthy),
    )
    yield GaugeMetricFamily(
        "swarmd_tcp_connections",
        "Open connections over TCP; --max-connections bounds them. Those of socket files are not among them.",
        connections,
    )


def _counted(metrics: Metrics) -> Iterator[Metric]:
    yield from _rpcs(metrics)
    yield from _scheduling(metrics)
    yield from _journal(metrics)


def _rpcs(metrics: Metrics) -> Iterator[Metric]:
    yield _counter(
        "swarmd_rpc_calls_total",
        "Calls that ended, by gRPC status code. Methods that swarmd does not have are counted as `other`.",
        ("method", "code"),
        metrics.calls,
    )
    yield _gauge(
        "swarmd_rpc_calls_under_way",
        "Calls that have not ended; --max-concurrent-streams bounds them. Open watches and updates stay for long.",
        ("method",),
        {(method,): count for method, count in metrics.under_way.items()},
    )
    yield _histogram(
        "swarmd_rpc_duration_seconds",
        "How long calls took that answer once. HasWork with `wait`, and Tick with a slow engine, take long by nature.",
        ("method",),
        metrics.durations,
    )
    yield _counter(
        "swarmd_rpc_messages_total",
        "Messages received and sent. In ApplyUpdate and WatchSwarm, the rate of updates and of changes told.",
        ("method", "direction"),
        metrics.messages,
    )
    yield _counter(
        "swarmd_rpc_refused_total",
        "Calls that ended with an error of swarmd, by its reason: NO_TOKEN and WRONG_TOKEN are strangers or a renewed "
        "token, TOO_MANY_... limits that were hit.",
        ("reason",),
        metrics.refusals,
    )


def _scheduling(metrics: Metrics) -> Iterator[Metric]:
    yield _histogram(
        "swarmd_tick_duration_seconds",
        "How long ticks took, calls to the engine included.",
        (),
        metrics.ticks,
    )
    yield _counter(
        "swarmd_batches_total",
        "Batches whose call to the gateway ended: queued (at least one task was taken), refused, failed (nothing was "
        "queued, and the tasks come back), or in_doubt (nobody knows yet).",
        ("gateway", "outcome"),
        metrics.batches,
    )
    yield _histogram(
        "swarmd_batch_size_tasks",
        "Tasks a batch. Small batches of large arrays mean limits with little room, or resources that differ a lot.",
        ("gateway",),
        metrics.batch_sizes,
    )
    yield _counter(
        "swarmd_batch_refused_tasks_total",
        "Tasks of batches that the engine did not take: they come back, or fail when it never can run them.",
        ("gateway",),
        metrics.refused_tasks,
    )
    yield _gauge(
        "swarmd_batches_under_way",
        "Batches whose call to the gateway goes on; at most --max-in-flight for each swarm.",
        ("gateway",),
        metrics.queueing.counts,
    )
    yield _histogram(
        "swarmd_gateway_call_duration_seconds",
        "How long calls to a gateway took, by what was asked of it.",
        ("gateway", "call"),
        metrics.gateway_calls,
    )
    yield _counter(
        "swarmd_gateway_errors_total",
        "Calls to a gateway that raised, refusals of whole batches included; the log says why.",
        ("gateway", "call"),
        metrics.gateway_errors,
    )


def _journal(metrics: Metrics) -> Iterator[Metric]:
    yield _histogram(
        "swarmd_journal_commit_duration_seconds",
        "How long it took to make a group of events durable: what every change waits for. Slow means a slow disk.",
        (),
        metrics.commits,
    )
    yield _histogram(
        "swarmd_journal_group_events",
        "Events a commit. Large groups are many writers that share commits.",
        (),
        metrics.groups,
    )
    yield CounterMetricFamily("swarmd_journal_bytes_total", "Bytes of events written down.", metrics.journal_bytes)
    yield CounterMetricFamily(
        "swarmd_journal_errors_total",
        "Commits that failed: a full or broken disk. Changes are refused until it can be written again.",
        metrics.journal_errors,
    )
    yield _histogram(
        "swarmd_journal_snapshot_duration_seconds",
        "How long snapshots took; they hold nobody up.",
        (),
        metrics.snapshots,
    )


def _standing(standing: Overview) -> Iterator[Metric]:
    outcomes: dict[tuple[str, ...], float] = {(name,): count for name, count in standing.outcomes.items()}
    yield _gauge(
        "swarmd_swarms",
        "Swarms by how they stand; set_aside ones are damaged, and `swarmd journal check` says more.",
        ("outcome",),
        outcomes,
    )
    yield GaugeMetricFamily(
        "swarmd_swarms_in_trouble",
        "Swarms whose changes cannot be written down now: look at the disk.",
        standing.in_trouble,
    )
    swarms = standing.swarms
    yield _by_state("swarmd_swarm_tasks", "Tasks of a swarm by state; together they are all of them.", swarms)
    for name, help_text, of in (
        ("swarmd_swarm_capacity_tasks", "How many more tasks the swarm's own limit lets become active now.", _capacity),
        ("swarmd_swarm_limit_tasks", "The swarm's max_concurrently_running.", _limit),
        ("swarmd_swarm_batches_open", "Batches that are being queued.", _open),
        (
            "swarmd_swarm_batches_in_doubt",
            "Batches of which nobody knows whether the engine has them; their tasks keep their places until it says.",
            _in_doubt,
        ),
        ("swarmd_swarm_watchers", "Open WatchSwarm streams; --max-watchers-per-swarm bounds them.", _watchers),
    ):
        yield _gauge(name, help_text, ("swarm",), {(row.swarm_id,): of(row) for row in swarms})
    yield _arrays_by_state(swarms)
    yield _gauge(
        "swarmd_array_capacity_tasks",
        "How many more tasks the array's own limit lets become active now; +Inf without a limit.",
        ("swarm", "array", "array_id"),
        {(swarm.swarm_id, row.name, row.array_id): row.room for swarm in swarms for row in swarm.arrays},
    )


def _by_state(name: str, help_text: str, swarms: Sequence[SwarmRow]) -> Metric:
    values: dict[tuple[str, ...], float] = {
        (row.swarm_id, state): float(count) for row in swarms for state, count in zip(STATES, row.tasks, strict=True)
    }
    return _gauge(name, help_text, ("swarm", "state"), values)


def _arrays_by_state(swarms: Sequence[SwarmRow]) -> Metric:
    values: dict[tuple[str, ...], float] = {
        (swarm.swarm_id, row.name, row.array_id, state): float(count)
        for swarm in swarms
        for row in swarm.arrays
        for state, count in zip(STATES, row.tasks, strict=True)
    }
    help_text = "Tasks of an array by state. The arrays of a swarm that have the most tasks are shown, the rest summed."
    return _gauge("swarmd_array_tasks", help_text, ("swarm", "array", "array_id", "state"), values)


def _capacity(row: SwarmRow) -> float:
    return row.capacity


def _limit(row: SwarmRow) -> float:
    return row.limit


def _open(row: SwarmRow) -> float:
    return row.batches_open


def _in_doubt(row: SwarmRow) -> float:
    return row.batches_in_doubt


def _watchers(row: SwarmRow) -> float:
    return row.watchers


def _counter(name: str, help_text: str, labels: Sequence[str], tally: Tally) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in tally.counts.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, help_text: str, labels: Sequence[str], values: dict[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family


def _histogram(name: str, help_text: str, labels: Sequence[str], distributions: Distributions) -> Metric:
    family = HistogramMetricFamily(name, help_text, labels=labels)
    known = distributions.by_labels
    if not labels and not known:
        known = {(): Distribution(distributions.bounds)}
    for values, distribution in known.items():
        family.add_metric(values, distribution.buckets(), distribution.total)
    return family
