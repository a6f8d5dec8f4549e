"""The sizes that are simulated: as it is today, ten times that, a thousand times that."""

from dataclasses import replace

from benchmarks.scaling.model import INSTANT, Engine, Setup

AS_INSTALLED = Engine(
    "Slurm as installed: 10,000 jobs known, kept for 5 min, looked at every second",
    submit_seconds=0.012, starts_a_second=80, known_jobs=10_000, kept_seconds=300, cores=100_000,
    look_seconds=0.005, look_seconds_a_job=8e-6, look_every_seconds=1.0,
)  # fmt: skip
TUNED = replace(AS_INSTALLED, name="Slurm tuned: 1,000,000 jobs known, kept for 10 s, 500 starts/s",
                starts_a_second=500, known_jobs=1_000_000, kept_seconds=10)  # fmt: skip
LOOKED_AT_SELDOM = replace(TUNED, name="the same, looked at every 30 s (poll_min)", look_every_seconds=30.0)
OWN_ENGINE = Engine("an engine of one's own (remote), 5 ms a batch", submit_seconds=0.005, cores=100_000)
MILLION = 1_000_000
TEN_MINUTES = 600.0

TODAY = (
    Setup("1.5 M tasks, one daemon", 3 * MILLION // 2),
    Setup("the same, news one by one", 3 * MILLION // 2, group=1),
)
TEN_TIMES = (
    Setup("15 M, one daemon", 15 * MILLION),
    Setup("15 M, 10 daemons, one machine of 16 cores", 15 * MILLION, daemons=10),
    Setup("15 M, 10 daemons, one machine of 4 cores", 15 * MILLION, daemons=10, cores=4),
    Setup("15 M, 10 daemons on 10 machines", 15 * MILLION, daemons=10, machines=10),
    Setup("15 M, 10 daemons, one machine, news one by one", 15 * MILLION, daemons=10, group=1),
    Setup("15 M of 10 min, 10 daemons, Slurm as installed", 15 * MILLION, daemons=10, clients=False,
          engine=AS_INSTALLED, task_seconds=TEN_MINUTES),
    Setup("the same, Slurm tuned", 15 * MILLION, daemons=10, clients=False,
          engine=TUNED, task_seconds=TEN_MINUTES),
    Setup("the same, Slurm tuned, poll_min 30 s", 15 * MILLION, daemons=10, clients=False,
          engine=LOOKED_AT_SELDOM, task_seconds=TEN_MINUTES),
    Setup("the same, an engine of one's own", 15 * MILLION, daemons=10, clients=False,
          engine=OWN_ENGINE, task_seconds=TEN_MINUTES),
)  # fmt: skip
THOUSAND_TIMES = (
    Setup("1.5 G, 1,000 daemons on 100 machines", 1500 * MILLION, daemons=1000, machines=100),
    Setup("the same, one disk for all", 1500 * MILLION, daemons=1000, machines=100, shared_disk=True),
    Setup("the same, own disks, news one by one", 1500 * MILLION, daemons=1000, machines=100, group=1),
    Setup("1.5 G of 10 min, 1,000 daemons, one Slurm, tuned, poll_min 30 s", 1500 * MILLION, daemons=1000, machines=100,
          clients=False, engine=LOOKED_AT_SELDOM, task_seconds=TEN_MINUTES),
    Setup("the same, 100 daemons, 10 such Slurms", 1500 * MILLION, daemons=100, machines=10, clients=False,
          engine=LOOKED_AT_SELDOM, engines=10, task_seconds=TEN_MINUTES),
    Setup("the same, 1,000 daemons, an engine of one's own", 1500 * MILLION, daemons=1000, machines=100, clients=False,
          engine=OWN_ENGINE, task_seconds=TEN_MINUTES),
    Setup("1.5 G of 1 s, 100 engines of one's own", 1500 * MILLION, daemons=1000, machines=100, clients=False,
          engine=OWN_ENGINE, engines=100, task_seconds=1.0),
)  # fmt: skip
PARTS = (("Today", TODAY), ("Ten times", TEN_TIMES), ("A thousand times", THOUSAND_TIMES))
__all__ = ["INSTANT", "PARTS", "TEN_TIMES", "THOUSAND_TIMES", "TODAY"]
