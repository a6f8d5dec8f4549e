"""Many daemons that share machines, a disk, a network and an engine, from the load to the last task that is DONE.

Each daemon computes on one core at a time; a client that drives it takes another. A swarm's tasks go in rounds: a tick
queues some, the engine starts and runs them, and their news come back. What is shared serves who comes first.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.scaling.costs import Costs
from benchmarks.scaling.lines import Job, Join, Line, Simulation

BATCH = 500
LEAST_ROUNDS = 10
UNITS = 4
"""So many parts does a load, and the news of a round, come in."""
DISK_BYTES_A_SECOND = 200e6
NETWORK_BYTES_A_SECOND = 125e6
"""One Gbit/s."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What takes the tasks of all daemons."""

    name: str
    submit_seconds: float = 0.0
    """Of a batch."""
    starts_a_second: float = 0.0
    """Tasks; 0: all at once."""
    known_jobs: int = 0
    """How many it can know at a time, those that are over included for `kept_seconds`; 0: any number."""
    kept_seconds: float = 0.0
    cores: int = 0
    """How many tasks can run at a time; 0: tasks take no time."""
    look_seconds: float = 0.0
    """Of its controller, for a daemon that looks at its queue ..."""
    look_seconds_a_job: float = 0.0
    """... and for each job that it knows."""
    look_every_seconds: float = 1.0

    @property
    def is_instant(self) -> bool:
        return not self.cores


INSTANT = Engine("pull, tasks take no time")


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated."""

    name: str
    tasks: int
    daemons: int = 1
    machines: int = 1
    cores: int = 16
    """Of each machine."""
    engine: Engine = INSTANT
    engines: int = 1
    """How many of that engine there are, each for as many of the daemons."""
    task_seconds: float = 0.0
    shared_disk: bool = False
    group: int = BATCH
    """Changes in a message of news."""
    clients: bool = True
    """Whether each daemon is driven by a client on its machine; otherwise the autopilot does it."""
    changes_a_task: int = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How long it takes, and how busy everything is: shares of the time, by the name of the line."""

    setup: Setup
    seconds: float
    busy: dict[str, float] = field(default_factory=dict)
    memory_bytes: float = 0.0
    """Of one daemon at its peak."""
    disk_bytes: float = 0.0
    wire_bytes: float = 0.0
    restart_seconds: float = 0.0

    @property
    def limit(self) -> str:
        """What is busiest, and so decides."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulated(setup: Setup, costs: Costs) -> Outcome:
    """Run the model."""
    world = _World(setup, costs)
    for number in range(setup.daemons):
        _Daemon(world, number).begin()
    seconds = world.simulation.run()
    a_daemon = setup.tasks / setup.daemons
    return Outcome(
        setup,
        seconds,
        world.busy(seconds),
        memory_bytes=costs.idle_mib * 2**20 + costs.memory_bytes * a_daemon,
        disk_bytes=costs.disk_bytes * setup.tasks,
        wire_bytes=costs.wire_bytes * setup.tasks,
        restart_seconds=costs.restart_us / 1e6 * a_daemon,
    )


class _World:
    """What there is, and who shares it."""

    def __init__(self, setup: Setup, costs: Costs) -> None:
        self.setup, self.costs = setup, costs
        self.simulation = Simulation()
        machines, engines = range(setup.machines), range(setup.engines)
        self.machines = [Line("the machine's cores", setup.cores) for _ in machines]
        self.networks = [Line("the network") for _ in machines]
        self.disks = [Line("the disk") for _ in ([0] if setup.shared_disk else machines)]
        self.daemons = [Line("a daemon's core") for _ in range(setup.daemons)]
        self.clients = [Line("a client's core") for _ in range(setup.daemons)]
        self.submissions = [Line("the engine: its controller") for _ in engines]
        self.starts = [Line("the engine: starts") for _ in engines]
        self.known = [Line("the engine: jobs it knows") for _ in engines]
        self.cluster = [Line("the cluster's cores") for _ in engines]

    def busy(self, seconds: float) -> dict[str, float]:
        """By name: the share of the time that the busiest line of that name was taken."""
        lines = (
            *self.machines, *self.networks, *self.disks, *self.daemons, *self.clients,
            *self.submissions, *self.starts, *self.known, *self.cluster,
        )  # fmt: skip
        shares: dict[str, float] = {}
        for line in lines:
            share = line.busy / line.places / seconds if seconds else 0.0
            shares[line.name] = max(shares.get(line.name, 0.0), share)
        if not self.setup.engine.is_instant:
            # what submissions take is longer by what the looks take meanwhile: of all of it they do the rest
            controller = shares[self.submissions[0].name]
            shares[self.submissions[0].name] = self.looking + controller * (1 - self.looking)
        return shares

    @property
    def looking(self) -> float:
        """The share of a controller's time that daemons take which look at their queues, when it knows all it can.

        Each looks again a while after its last look was answered, so that they cannot take everything.
        """
        engine, daemons = self.setup.engine, self.setup.daemons / self.setup.engines
        one = engine.look_seconds + engine.look_seconds_a_job * engine.known_jobs / daemons
        return min(daemons * one / (engine.look_every_seconds + one), daemons / (daemons + 1))


class _Daemon:
    """One daemon with its share of the tasks."""

    def __init__(self, world: _World, number: int) -> None:
        setup = world.setup
        self.world, self.setup, self.costs = world, setup, world.costs
        machine, engine = number % setup.machines, number % setup.engines
        self.cores, self.network = world.machines[machine], world.networks[machine]
        self.disk = world.disks[0 if setup.shared_disk else machine]
        self.own, self.client = world.daemons[number], world.clients[number]
        self.submissions, self.starts = world.submissions[engine], world.starts[engine]
        self.known, self.cluster = world.known[engine], world.cluster[engine]
        self.tasks = setup.tasks / setup.daemons
        self.rounds = LEAST_ROUNDS

    def begin(self) -> None:
        join = Join(UNITS, self._one_after_the_other() if self.setup.engine.is_instant else self._all_at_once())
        for _ in range(UNITS):
            self.world.simulation.start(self._part_of_load(self.tasks / UNITS), join)

    def _part_of_load(self, tasks: float) -> Job:
        yield self._network(tasks / 2)
        yield (self.own, self.cores), self.costs.load_us * tasks / 1e6
        yield self._disk(tasks / 2)

    def _all_at_once(self) -> Job:
        """Rounds wait for nothing but what serves them."""
        for _ in range(self.rounds):
            self.world.simulation.start(self._round(self.tasks / self.rounds, None))
        yield 0.0

    def _one_after_the_other(self, number: int = 0) -> Job:
        """A client ticks, and tells what came of it, before it ticks again."""
        more = self._one_after_the_other(number + 1) if number + 1 < self.rounds else None
        yield from self._round(self.tasks / self.rounds, more)

    def _round(self, tasks: float, then: Job | None) -> Job:
        yield (self.own, self.cores), self.costs.tick_us * tasks / 1e6
        yield (self.disk,), self.costs.commit_ms / 1e3
        if not self.setup.engine.is_instant:
            yield from self._engine(tasks)
        join = Join(UNITS, then)
        for _ in range(UNITS):
            self.world.simulation.start(self._news(tasks / UNITS), join)

    def _engine(self, tasks: float) -> Iterator[tuple[tuple[Line, ...], float] | float]:
        """Places among the jobs it knows, submission, start, and the run: each as much of it as these tasks take."""
        engine, seconds = self.setup.engine, self.setup.task_seconds
        if engine.known_jobs:
            yield (self.known,), tasks * (seconds + engine.kept_seconds) / engine.known_jobs
        yield (self.submissions,), tasks / BATCH * engine.submit_seconds / (1 - self.world.looking)
        if engine.starts_a_second:
            yield (self.starts,), tasks / engine.starts_a_second
        yield (self.cluster,), tasks * seconds / engine.cores
        yield seconds

    def _news(self, tasks: float) -> Job:
        costs, setup = self.costs, self.setup
        if setup.clients:
            yield (self.client, self.cores), costs.client_us * tasks / 1e6
            yield self._network(tasks / 2)
        single = costs.message_us * setup.changes_a_task * (1 / setup.group - 1 / BATCH)
        yield (self.own, self.cores), (costs.update_us + max(0.0, single)) * tasks / 1e6
        yield self._disk(tasks / 2)

    def _network(self, tasks: float) -> tuple[tuple[Line, ...], float]:
        return (self.network,), self.costs.wire_bytes * tasks / NETWORK_BYTES_A_SECOND

    def _disk(self, tasks: float) -> tuple[tuple[Line, ...], float]:
        """Its bytes, and one commit: what waits shares it."""
        return (self.disk,), self.costs.disk_bytes * tasks / DISK_BYTES_A_SECOND + self.costs.commit_ms / 1e3
