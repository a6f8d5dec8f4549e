"""What there is beside the daemon when a gateway is tortured: whoever runs the tasks, and may be killed as well.

The torture of another gateway needs a `Surroundings` of its own here, and a name in `SURROUNDINGS`; nothing else.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from swarmd.gateways.local.adoption import is_launcher
from swarmd.gateways.local.procfs import environment_of, process_ids, stat_of
from tests.crash.restarting import ROOT
from tests.gateways.remote.engines import EngineProcess, go_command, has_go, python_command
from tests.gateways.slurm.cluster import Cluster, missing_programs

RESTARTED_CONTROLLERS = 0.3
"""So many of those that could be killed of Slurm are controllers that are started anew; others freeze for a moment."""
LONGEST_ABSENCE = 1.0
"""How long what was killed stays away, at most, in seconds."""


class Surroundings:
    """Nothing but the daemon. Others override what is different with them."""

    gateway: str
    autopilot = True
    """Whether the daemon ticks by itself."""
    max_attempts = 2
    """So many attempts of a task may fail. What survives a kill fails only where it is meant to: once."""
    is_mortal = False
    """Whether there is something that can be killed."""

    def __init__(self, home: Path, address: str, environment: Mapping[str, str], sleep: float) -> None:
        """`address` is the daemon's; `environment` is that of the tasks, which take `sleep` seconds."""
        self.home = home
        self.address = address
        self.environment = environment
        self.sleep = sleep

    @property
    def gateway_options(self) -> dict[str, str]:
        """Of the swarm."""
        return {}

    def ensure(self) -> str:
        """See to it that everything runs, or is about to; gives back what is wrong with what ended by itself."""
        return ""

    def kill(self, chance: random.Random) -> None:
        """As `kill -9`."""

    def close(self) -> None:
        """Everything goes."""


class Launchers(Surroundings):
    """Those of the local gateway: what starts the tasks and waits for them, of this daemon and of those before it.

    Their guardians live.
    """

    gateway = "local"
    is_mortal = True

    def kill(self, chance: random.Random) -> None:
        mark = os.fsencode(self.home)
        ours = [pid for pid in process_ids() if is_launcher(pid) and any(mark in it for it in environment_of(pid))]
        for pid in ours:
            stat = stat_of(pid)
            if stat is not None and stat.parent in ours:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class PullingClient(Surroundings):
    """Those of the pull gateway: a client that ticks, runs the tasks and reports."""

    gateway = "pull"
    autopilot = False
    max_attempts = 100
    """What a client runs dies with it."""
    is_mortal = True

    def __init__(self, home: Path, address: str, environment: Mapping[str, str], sleep: float) -> None:
        super().__init__(home, address, environment, sleep)
        self._client: subprocess.Popen[bytes] | None = None

    def ensure(self) -> str:
        wrong = ""
        if self._client is not None:
            if self._client.poll() is None:
                return ""
            if self._client.returncode:
                said = (self.home / "client.stderr").read_text().splitlines()[-1:]
                wrong = f"the client ended by itself: {said}"
        command = [sys.executable, "-m", "tests.crash.pulling_client", self.address, str(self.home), str(self.sleep)]
        with (self.home / "client.stderr").open("ab") as errors:
            self._client = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=errors)
        return wrong

    def kill(self, chance: random.Random) -> None:
        if self._client is not None:
            self._client.kill()
            self._client.wait()
            self._client = None

    def close(self) -> None:
        self.kill(random.Random())


class RemoteEngine(Surroundings):
    """Those of the remote gateway: the example engine in Python, whose tasks survive it."""

    gateway = "remote"
    is_mortal = True
    command = staticmethod(python_command)

    def __init__(self, home: Path, address: str, environment: Mapping[str, str], sleep: float) -> None:
        super().__init__(home, address, environment, sleep)
        self._engine = EngineProcess(self.command(), home, cores=16, environment=environment)
        self._runs = False

    @property
    def gateway_options(self) -> dict[str, str]:
        return {"address": self._engine.address}

    def ensure(self) -> str:
        wrong = ""
        if self._runs:
            if not self._engine.has_ended:
                return ""
            wrong = f"the engine ended by itself: {self._engine.log.splitlines()[-1:]}"
        self._engine.launch()
        self._runs = True
        return wrong

    def kill(self, chance: random.Random) -> None:
        self._engine.kill()
        self._runs = False
        time.sleep(chance.uniform(0.0, LONGEST_ABSENCE))

    def close(self) -> None:
        self._engine.close()


class RemoteGoEngine(RemoteEngine):
    """The same with the example engine in Go."""

    command = staticmethod(go_command)


class SlurmCluster(Surroundings):
    """Those of the slurm gateway: a cluster of its own, whose controller freezes, or is started anew.

    It is not killed here: a controller that loses what it had not written ends jobs that run, by itself (the tests of
    the gateway do that to it).
    """

    gateway = "slurm"
    is_mortal = True

    def __init__(self, home: Path, address: str, environment: Mapping[str, str], sleep: float) -> None:
        super().__init__(home, address, environment, sleep)
        self._cluster = Cluster(home / "slurm")
        self._cluster.start()
        write_config(home, f'[gateways.slurm]\nconf = "{self._cluster.conf}"\npoll_min = 0.2\npoll_max = 1\n')

    def ensure(self) -> str:
        controller = self._cluster.controller
        return "" if controller is not None and controller.poll() is None else "Slurm's controller ended by itself"

    def kill(self, chance: random.Random) -> None:
        if chance.random() < RESTARTED_CONTROLLERS:
            self._cluster.stop_controller()
            time.sleep(chance.uniform(0.0, LONGEST_ABSENCE))
            self._cluster.start_controller()
        else:
            with self._cluster.frozen():
                time.sleep(chance.uniform(0.0, LONGEST_ABSENCE))

    def close(self) -> None:
        self._cluster.stop()


def write_config(home: Path, text: str) -> None:
    """The config file of a daemon that has this home (`tests.daemon.private_environment`)."""
    file = home / "config" / "swarmd" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)


SURROUNDINGS: dict[str, type[Surroundings]] = {
    "local": Launchers,
    "pull": PullingClient,
    "remote": RemoteEngine,
    **({"remote-go": RemoteGoEngine} if has_go() else {}),
    **({} if missing_programs() else {"slurm": SlurmCluster}),
}
"""What is tortured: gateways, and engines of theirs."""
