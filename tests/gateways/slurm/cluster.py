"""A real Slurm of one's own: a controller and nodes in a private folder, started in about a second, gone at the end.

Used by the tests of the Slurm gateway, by its benchmark and by the torture run. Nothing of the machine's own Slurm is
touched: the configuration, the ports and the state are the folder's.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
READY_SECONDS = 60.0
GONE_SECONDS = 30.0
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where the daemons are: not every user has them in the path."""

FAST_CLOCK = {
    "MessageTimeout": "100",
    "BatchStartTimeout": "300",
    "SlurmdTimeout": "3000",
    "SlurmctldTimeout": "3000",
    "UnkillableStepTimeout": "1000",
    "TCPTimeout": "60",
}
"""What a clock that runs ten times as fast makes necessary."""

CONFIGURATION = """\
ClusterName=box
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
ReturnToService=2
SlurmdParameters=config_overrides
DefMemPerCPU=1
"""

TUNED = {
    "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,"
    "default_queue_depth=10000,partition_job_depth=10000",
    "MaxArraySize": "10001",
    "MaxJobCount": "50000",
    "MinJobAge": "300",
    "KillWait": "2",
    "MessageTimeout": "10",
}

ONE_PARTITION = ("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP",)


def missing_programs() -> list[str]:
    """What has to be installed for a cluster to start; empty when all is there."""
    return [name for name in PROGRAMS if shutil.which(name, path=program_path()) is None]


def program_path() -> str:
    """Where Slurm's programs are looked for."""
    return f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}"


def fast_clock_library() -> Path | None:
    """The library that lets a clock run faster; None where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Cluster:
    """A controller and its nodes, each a process that can be stopped, killed and started again."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of slurm.conf, over the usual ones."""
    nodes: int = 1
    partitions: Sequence[str] = ONE_PARTITION
    speed: int = 1
    """How many times faster its clock runs."""
    cpus: int = 256
    memory_mib: int = 256_000
    cgroup: str = ""
    """More lines of cgroup.conf."""
    controller: "subprocess.Popen[bytes] | None" = None
    workers: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.folder / "conf" / "slurm.conf"

    @property
    def job_completions(self) -> Path:
        """What its jobcomp plugin writes."""
        return self.folder / "log" / "jobcomp.txt"

    @property
    def environment(self) -> dict[str, str]:
        """For its clients."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        return {**kept, "PATH": program_path(), "SLURM_CONF": str(self.conf)}

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    def start(self) -> None:
        """Configure it, start everything, and wait until its nodes are idle."""
        for name in ("conf", "state", "log", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._configure()
        self.start_controller()
        for name in self.node_names:
            self.start_node(name)
        self.until_idle()

    def _configure(self) -> None:
        ports = free_ports(1 + self.nodes)
        user = pwd.getpwuid(os.geteuid()).pw_name
        fast = FAST_CLOCK if self.speed > 1 else {}
        lines = [f"{name}={value}" for name, value in {**TUNED, **fast, **self.settings}.items()]
        lines += [
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} "
            f"RealMemory={self.memory_mib} State=UNKNOWN"
            for name, port in zip(self.node_names, ports[1:], strict=True)
        ]
        fixed = CONFIGURATION.format(port=ports[0], user=user, folder=self.folder)
        self.conf.write_text("\n".join([fixed, *lines, *self.partitions, ""]))
        (self.conf.parent / "cgroup.conf").write_text(f"CgroupAutomount=no\nCgroupPlugin=cgroup/v1\n{self.cgroup}")

    def start_controller(self) -> None:
        self.controller = self._started("slurmctld", "-D", "-f", str(self.conf))

    def start_node(self, name: str) -> None:
        self.workers[name] = self._started("slurmd", "-D", "-N", name, "-f", str(self.conf))

    def _started(self, *command: str) -> "subprocess.Popen[bytes]":
        fast: dict[str, str] = {}
        if self.speed > 1:
            fast = {
                "LD_PRELOAD": str(fast_clock_library()),
                "FAKETIME": f"+0 x{self.speed}",
                "FAKETIME_DONT_RESET": "1",
            }
        return subprocess.Popen(
            command,
            env={**self.environment, **fast},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill_controller(self) -> None:
        """As a crash would."""
        assert self.controller is not None
        self.controller.kill()
        self.controller.wait()

    def stop_controller(self) -> None:
        """As its administrator would: it writes everything down."""
        assert self.controller is not None
        self.controller.terminate()
        self.controller.wait(GONE_SECONDS)

    def kill_node(self, name: str) -> None:
        self.workers[name].kill()
        self.workers[name].wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The controller hears everything and answers nothing meanwhile."""
        assert self.controller is not None
        self.controller.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.controller.send_signal(signal.SIGCONT)

    def call(self, *command: str, check: bool = True) -> str:
        """What one of its programs prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def job_names(self) -> list[str]:
        """The name of each array that it knows, once for each."""
        lines = set(self.call("squeue", "-h", "-t", "all", "-o", "%F %j").splitlines())
        return [line.split(" ", 1)[1] for line in sorted(lines)]

    def until(self, command: Sequence[str], wanted: Collection[str], seconds: float = READY_SECONDS) -> None:
        """Wait until a program prints just these lines, in any order and however often."""
        end = time.monotonic() + seconds
        said: set[str] = set()
        while time.monotonic() < end:
            said = set(self.call(*command, check=False).splitlines())
            if said == set(wanted):
                return
            time.sleep(0.05)
        raise AssertionError(f"{' '.join(command)} says {said!r} instead of {wanted!r}\n{self._log_end()}")

    def until_idle(self) -> None:
        """Wait until every node waits for work."""
        self.until(["sinfo", "-h", "-N", "-o", "%N %T"], [f"{name} idle" for name in self.node_names])

    def until_idle_again(self) -> None:
        """Wait for nodes that were down."""
        for name in self.node_names:
            self.call("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        self.until_idle()

    def clear(self) -> None:
        """End every job, make every node work again, and wait until it is so."""
        self.call("scancel", "-u", pwd.getpwuid(os.geteuid()).pw_name, check=False)
        for name in self.node_names:
            self.call("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        self.until(["squeue", "-h"], ())

    def stop(self) -> None:
        """End it; nothing of it runs on return."""
        if self.controller is not None and self.controller.poll() is None:
            self.controller.send_signal(signal.SIGCONT)
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.clear()
        processes = [*self.workers.values(), *([self.controller] if self.controller else [])]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GONE_SECONDS)
            process.kill()
            process.wait()
        self._kill_steps()

    def _kill_steps(self) -> None:
        """What nodes that were killed have left: it would tell a controller of its end for a long time."""
        ours = f"SLURM_CONF={self.conf}\0".encode()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):  # its title is where its environment begins
                if process.name() == "slurmstepd" and ours in Path(f"/proc/{process.pid}/environ").read_bytes():
                    for each in (*process.children(recursive=True), process):
                        each.kill()

    def _log_end(self) -> str:
        log = self.folder / "log" / "slurmctld.log"
        return "\n".join(log.read_text().splitlines()[-20:]) if log.exists() else "there is no log"


@contextlib.contextmanager
def running_cluster(
    settings: Mapping[str, str] | None = None,
    *,
    nodes: int = 1,
    partitions: Sequence[str] = ONE_PARTITION,
    speed: int = 1,
    cgroup: str = "",
) -> Iterator[Cluster]:
    """A cluster that is ready for jobs; it ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(folder, settings or {}, nodes, partitions, speed, cgroup=cgroup)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
