"""The example study: its file as a plan, and its scripts as real processes on a small scale."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from swarmd.workflow import load_workflow

STUDY = Path(__file__).parents[2] / "examples" / "study"
LOCATIONS = ("islands", "harbor")


def run(results: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=STUDY,
        env={**os.environ, "STUDY_RESULTS": str(results), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    results = tmp_path_factory.mktemp("study")
    stages: list[tuple[str, ...]] = [("prepare.py", location) for location in LOCATIONS]
    stages += [("simulate.py", location, draw) for location in LOCATIONS for draw in ("1", "2")]
    stages += [("summarize.py", location) for location in LOCATIONS]
    for stage in [*stages, ("report.py",)]:
        done = run(results, *stage)
        assert done.returncode == 0, done.stderr
    return results


def test_the_plan_has_four_stages():
    plan = load_workflow(STUDY / "study.yaml")
    assert [array.name for array in plan.arrays] == ["prepare", "simulate", "summarize", "report"]
    assert [sum(task.array_id == array.array_id for task in plan.tasks) for array in plan.arrays] == [6, 216, 6, 1]
    assert plan.working_directory == STUDY
    assert plan.environment["STUDY_FAILS_ONCE"] in {task.name for task in plan.tasks}


def test_each_stage_waits_for_its_own_location():
    tasks = {task.task_id: task for task in load_workflow(STUDY / "study.yaml").tasks}
    by_name = {task.name: [tasks[up].name for up in task.upstream_task_ids] for task in tasks.values()}
    assert by_name["simulate_delta_7"] == ["prepare_delta"]
    assert by_name["summarize_islands"] == [f"simulate_islands_{draw}" for draw in range(1, 37)]
    assert len(by_name["report"]) == 6


def test_the_scripts_end_in_a_plot_and_a_table(results):
    assert (results / "epidemic.png").read_bytes().startswith(b"\x89PNG")
    with (results / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Location"] for row in rows] == ["Harbor", "Islands"]
    assert len((results / "table.md").read_text(encoding="utf-8").splitlines()) == 4


def test_a_draw_holds_a_plausible_epidemic(results):
    with np.load(results / "draws" / "islands" / "1.npz") as draw:
        assert draw["infections"].shape == draw["beds"].shape == (240,)
        assert 0 < draw["infections"].sum() < 95_000
        assert (draw["beds"] >= 0).all()


def test_the_same_draw_gives_the_same_epidemic(results, tmp_path):
    for script in (("prepare.py", "islands"), ("simulate.py", "islands", "1")):
        run(tmp_path, *script)
    with np.load(results / "draws/islands/1.npz") as first, np.load(tmp_path / "draws/islands/1.npz") as second:
        assert (first["infections"] == second["infections"]).all()


def test_the_chosen_task_fails_on_its_first_attempt_only(results):
    chosen = {"STUDY_FAILS_ONCE": "simulate_islands_2", "SWARM_TASK_NAME": "simulate_islands_2"}
    first = run(results, "simulate.py", "islands", "2", SWARM_ATTEMPT="1", **chosen)
    assert first.returncode == 1
    assert "fails on its first attempt, on purpose" in first.stderr
    assert run(results, "simulate.py", "islands", "2", SWARM_ATTEMPT="2", **chosen).returncode == 0
