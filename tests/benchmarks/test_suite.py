"""The suite itself: what is run, and a run of its quickest parts with sizes that take no time."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.suite import __main__ as suite
from benchmarks.suite.measurements import ALL, Measurement, chosen
from benchmarks.suite.results import Results
from benchmarks.suite.setting import PACKAGES, QUICK, Peers, Setting
from benchmarks.suite.swarms import Plan, read_chunks, write_chunks

from swarmd._pb.swarm.v1 import swarm_service_pb2, task_pb2

TINY = replace(
    QUICK,
    rounds=1,
    tick_tasks=300,
    tick_arrays=3,
    growth=(300, 600),
    swarm_tasks=12_000,
    swarm_arrays=30,
    steady_ticks=5,
    calls=64,
    messages=5,
    full_messages=8,
    watchers=3,
    watched_changes=3,
    programs=4,
    starts=1,
    commits=5,
    cores=(2, 1000),
)


@pytest.fixture
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(TINY, tmp_path_factory.mktemp("b"), Peers(None))


def measured(name: str, setting: Setting) -> Results:
    results = Results()
    suite.measure_all(chosen(name), results, setting)
    assert results.failures == []
    return results


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("tick", 2),
        ("growth", 1),
        ("life", 6),
        ("has-work", 2),
        ("updates", 6),
        ("pull", 2),
        ("steady", 3),
        ("watchers", 2),
        ("programs", 4),
        ("commits", 1),
        ("copies", 1),
    ],
)
def test_a_measurement_comes_to_its_end_and_makes_its_rows(name: str, rows: int, setting: Setting):
    results = measured(name, setting)
    assert len(results.rows) == rows
    assert all(row.ours.least > 0 for row in results.rows if row.unit != "slope")


def test_without_peers_their_rows_are_there_without_them(setting: Setting):
    for row in measured("tick", setting).rows:
        assert row.peer is None
        assert row.met is None
        assert row.peer_name == "Jobmon's client"


def test_the_large_swarm_is_measured_when_it_is_asked_for(setting: Setting):
    setting.sizes = replace(TINY, large_tasks=24_000)
    setting.large = True
    rows = measured("life", setting).rows
    assert len(rows) == 8
    assert "24,000 tasks, 60 arrays" in rows[6].name
    assert rows[6].peer_name == "12,000 tasks, in proportion"


def test_one_measurement_that_fails_does_not_keep_others_from_being_made(setting: Setting):
    def fall_over(results: Results, setting: Setting) -> None:
        raise RuntimeError("it fell over")

    results = Results()
    suite.measure_all([Measurement("bad", fall_over), *chosen("copies")], results, setting)
    assert results.failures == ["bad: it fell over"]
    assert len(results.rows) == 1


def test_measurements_are_chosen_by_name():
    assert [each.name for each in chosen("copies, tick")] == ["copies", "tick"]
    assert chosen("") == list(ALL)
    with pytest.raises(ValueError, match=r"--only: nonsense: there is no such measurement; there are tick, growth"):
        chosen("tick,nonsense")


def test_a_run_writes_the_table_the_json_and_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = {kind: tmp_path / f"bench.{kind}" for kind in ("json", "table", "picture", "markdown")}
    arguments = ["--quick", "--only", "copies", "--peers", str(tmp_path / "none")]
    for option, file in files.items():
        arguments += [f"--{option}", str(file)]
    assert suite.main(arguments) == 0
    (row,) = json.loads(files["json"].read_text())
    assert row["peer_name"] == "memory bandwidth"
    assert files["picture"].read_bytes().startswith(b"\x89PNG")
    assert "| columns copied for a snapshot" in files["markdown"].read_text()
    shown = capsys.readouterr().out
    assert shown.startswith(files["table"].read_text())
    assert "no peers: `python scripts/bench_environment.py` installs them" in shown


def test_a_peer_that_fails_says_why(setting: Setting):
    with pytest.raises(RuntimeError, match=r"(?s)jobmon_batching\.py failed: .*ModuleNotFoundError"):
        Peers(Path(sys.executable)).run("jobmon_batching.py", 10, 1)


def test_peers_that_are_not_installed_are_not_there():
    found = Peers(Path(sys.executable))
    assert not any(found.has(package) for package in PACKAGES)


async def test_the_load_is_what_the_plan_says(tmp_path: Path):
    plan = Plan(tasks=1000, arrays=7, edges=734)
    write_chunks(plan, "s", tmp_path / "chunks")
    tasks: list[task_pb2.Task] = []
    arrays = 0
    async for chunk in read_chunks(tmp_path / "chunks"):
        message = swarm_service_pb2.AddTasksRequest.FromString(chunk)
        tasks += message.tasks
        arrays += len(message.arrays)
    assert sorted(task.task_id for task in tasks) == list(range(1, 1001))
    assert arrays == 7
    assert sum(len(task.upstream_task_ids) for task in tasks) == 734
    first_late = 1000 - 367 + 1
    for task in tasks:
        assert len(set(task.upstream_task_ids)) == (2 if task.task_id >= first_late else 0)
        assert all(1 <= each < first_late for each in task.upstream_task_ids)
