"""Resources that grow on a real Slurm: what its partitions can hold decides, and `swarmd explain` tells the history."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import running
from tests.gateways.slurm.cluster import Cluster, fast_clock_library, running_cluster
from tests.gateways.slurm.conftest import need, need_slurm
from tests.gateways.slurm.test_end_to_end import home, swarmd

__all__ = ["home"]

SPEED = 10
PARTITIONS = (
    "PartitionName=long Nodes=n1 MaxTime=60 State=UP",
    "PartitionName=short Nodes=n1 Default=YES MaxTime=2 State=UP",
)
WORKFLOW = """
name: study
arrays:
  moves:
    command: 'if [ "$SWARM_ATTEMPT" -lt 3 ]; then exec sleep 600; fi'
    count: 1
    max_attempts: 3
    resources: {cores: 1, memory: 10M, runtime: 60, queue: short, fallback_queues: [long]}
    resource_scales: {runtime: 1.0, memory: 0.5}
  stays:
    command: 'exec sleep 600'
    count: 1
    max_attempts: 2
    resources: {cores: 1, memory: 10M, runtime: 90, queue: short}
    resource_scales: {runtime: 1.0}
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Its clock runs fast, so that a minute is over soon."""
    need_slurm()
    need([] if fast_clock_library() else ["libfaketime"])
    with running_cluster(speed=SPEED, partitions=PARTITIONS) as cluster:
        yield cluster


def test_they_grow_within_a_partition_and_move_on_to_one_that_can_hold_them(home: Path):
    (home / "flow.yaml").write_text(WORKFLOW)
    with running(home=home) as daemon:
        answer = swarmd(home, daemon.environment, "run", "flow.yaml", "--gateway", "slurm", "--swarm-id", "grows")
        assert "1 of 2 tasks done" in answer.out, answer.err + answer.out

        told = json.loads(swarmd(home, daemon.environment, "explain", "grows", "moves_0", "--json").out)
        asked = [each["taskResources"] for each in told["attempts"]]
        assert [each["status"].removeprefix("TASK_STATUS_") for each in told["attempts"]] == [
            "ADJUSTING_RESOURCES",
            "ADJUSTING_RESOURCES",
            "DONE",
        ]
        assert [(each["queue"], each["runtime"], each["memoryMib"]) for each in asked] == [
            ("short", "60s", 10),
            ("short", "120s", 15),
            ("long", "240s", 23),
        ]
        assert told["attempts"][1]["reason"] == "ran longer than its runtime of 120 s (Slurm: TIMEOUT, TimeLimit)"
        text = swarmd(home, daemon.environment, "explain", "grows", "moves_0").out
        assert re.search(r"^ +2  ADJUSTING_RESOURCES .* 1 core, 15 MiB, 2 min on short ", text, re.MULTILINE)
        assert re.search(r"^ +3  DONE .* 1 core, 23 MiB, 4 min on long", text, re.MULTILINE)

        told = json.loads(swarmd(home, daemon.environment, "explain", "grows", "stays_0", "--json").out)
        assert [each["taskResources"]["runtime"] for each in told["attempts"]] == ["90s", "120s"]
        assert "capped by queue 'short'" in told["summary"]
        assert "an attempt asks for at most 120 s of runtime" in told["summary"]
        assert daemon.stop() == 0
