"""The simulation of many daemons: what can be reckoned by hand comes out, and a real run can be set beside it."""

import json
from collections.abc import Generator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling.check import compared
from benchmarks.scaling.costs import Costs, of_suite
from benchmarks.scaling.lines import Join, Line, Simulation, Step
from benchmarks.scaling.model import Engine, Setup, simulated
from benchmarks.scaling.scenarios import PARTS
from benchmarks.suite.setting import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

MILLION = 1_000_000
FREE = Costs(**{each.name: 0.0 for each in fields(Costs)})
ONLY_DAEMON = replace(FREE, load_us=1, tick_us=2, update_us=3)
CLUSTER = Engine("a cluster", cores=1000)


def holding(line: Line, seconds: float, ends: list[float], simulation: Simulation) -> Generator[Step]:
    yield (line,), seconds
    ends.append(simulation.now)


# -- lines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("places", "expected"), [(1, [2.0, 4.0, 6.0]), (2, [2.0, 2.0, 4.0]), (5, [2.0, 2.0, 2.0])])
def test_a_line_serves_as_many_as_it_has_places(places: int, expected: list[float]):
    simulation, line, ends = Simulation(), Line("a line", places), list[float]()
    for _ in expected:
        simulation.start(holding(line, 2.0, ends, simulation))
    assert simulation.run() == expected[-1]
    assert ends == expected
    assert line.busy == 6.0


def test_who_waits_for_one_line_does_not_keep_another_from_being_used():
    simulation, own, cores, ends = Simulation(), Line("own"), Line("cores", 2), list[float]()

    def both() -> Generator[Step]:
        yield (own, cores), 3.0
        ends.append(simulation.now)

    simulation.start(both())
    simulation.start(both())
    simulation.start(holding(cores, 1.0, ends, simulation))
    simulation.run()
    assert ends == [1.0, 3.0, 6.0]


def test_a_job_that_waits_for_several_begins_when_all_are_over():
    simulation, line, ends = Simulation(), Line("a line"), list[float]()
    join = Join(2, holding(line, 1.0, ends, simulation))
    for seconds in (1.0, 5.0):
        simulation.start(holding(line, seconds, ends, simulation), join)
    assert simulation.run() == 7.0
    assert ends == [1.0, 6.0, 7.0]


# -- the model ---------------------------------------------------------------------------------------------------------


def test_one_daemon_takes_what_its_tasks_cost():
    found = simulated(Setup("one", MILLION, clients=False), ONLY_DAEMON)
    assert found.seconds == pytest.approx(6.0)
    assert found.busy["a daemon's core"] == pytest.approx(1.0)
    assert found.limit == "a daemon's core"


@pytest.mark.parametrize(
    ("daemons", "machines", "cores", "seconds"), [(10, 10, 1, 0.6), (10, 1, 16, 0.6), (10, 1, 2, 3)]
)
def test_daemons_share_the_cores_of_their_machine(daemons: int, machines: int, cores: int, seconds: float):
    setup = Setup("ten", MILLION, daemons=daemons, machines=machines, cores=cores, clients=False)
    assert simulated(setup, ONLY_DAEMON).seconds == pytest.approx(seconds)


def test_one_disk_for_all_is_slower_than_one_each():
    costs = replace(ONLY_DAEMON, disk_bytes=2000)  # ten seconds at 200 MB/s
    setup = Setup("ten", MILLION, daemons=10, machines=10, clients=False)
    assert simulated(setup, costs).seconds < 3
    shared = simulated(replace(setup, shared_disk=True), costs)
    assert shared.seconds >= 10
    assert shared.limit == "the disk"


def test_news_one_by_one_cost_a_message_each():
    costs = replace(ONLY_DAEMON, message_us=100)
    few, many = (simulated(Setup("one", MILLION, clients=False, group=group), costs) for group in (500, 1))
    assert few.seconds == pytest.approx(6.0)
    assert many.seconds == pytest.approx(6.0 + 2 * 100 * (1 - 1 / 500))


@pytest.mark.parametrize(
    ("engine", "rate"),
    [
        (CLUSTER, 1000 / 60),
        (replace(CLUSTER, starts_a_second=5), 5),
        (replace(CLUSTER, submit_seconds=250), 2),
        (replace(CLUSTER, known_jobs=900, kept_seconds=240), 3),
    ],
)
def test_an_engine_is_the_limit_when_it_is_slower_than_daemons(engine: Engine, rate: float):
    """Tasks of a minute: as fast as its cores, its starts, its controller, or the jobs that it can know, allow."""
    setup = Setup("some", MILLION, daemons=3, clients=False, engine=engine, task_seconds=60)
    assert simulated(setup, ONLY_DAEMON).seconds == pytest.approx(MILLION / rate, rel=0.12)


def test_looks_take_their_share_of_a_controller_but_never_all_of_it():
    engine = replace(CLUSTER, submit_seconds=0.01, known_jobs=MILLION, look_seconds_a_job=8e-6)
    setup = Setup("some", MILLION, daemons=10, clients=False, engine=engine, task_seconds=1)
    often, seldom = (
        simulated(replace(setup, engine=replace(engine, look_every_seconds=each)), FREE) for each in (1, 60)
    )
    assert 0.85 < often.busy["the engine: its controller"] < 0.95
    assert 0.1 < seldom.busy["the engine: its controller"] < 0.2


@settings(max_examples=30, deadline=None)
@given(
    tasks=st.integers(1000, 10 * MILLION),
    daemons=st.integers(1, 20),
    machines=st.integers(1, 20),
    cores=st.integers(1, 32),
    shared=st.booleans(),
    clients=st.booleans(),
)
def test_it_never_takes_less_than_what_is_busiest_and_no_line_is_overbooked(
    tasks: int, daemons: int, machines: int, cores: int, shared: bool, clients: bool
):
    setup = Setup("any", tasks, daemons, machines, cores, shared_disk=shared, clients=clients)
    found = simulated(setup, Costs())
    assert found == simulated(setup, Costs())
    assert max(found.busy.values()) <= 1 + 1e-9
    work = (Costs().load_us + Costs().tick_us + Costs().update_us) * tasks / daemons / 1e6
    assert found.seconds >= work * (1 - 1e-9)


# -- costs, and what is printed ----------------------------------------------------------------------------------------


def test_costs_come_from_the_suites_last_run_where_it_says_something(tmp_path: Path):
    rows = {
        "whole life over gRPC, durable: 1,500,000 tasks, 10,000 arrays, 1,100,000 edges": 24.0,
        "the same: its load": 3.0,
        "the same: its ticks": 6.0,
        "the same: its updates": 15.0,
        "the same: the daemon's memory at its peak": 370.0,
        "resident memory when idle": 70.0,
        "ApplyUpdate, messages of 1 change, durable": 4000.0,
        "restart with 1,500,000 tasks, half done": 3.0,
    }
    file = tmp_path / "bench.json"
    written = [{"name": name, "ours": value, "peer": None} for name, value in rows.items()]
    file.write_text(json.dumps([*written, {"name": "durable updates of 1 change, one after the other", "peer": 5000}]))
    found = of_suite(file, Costs())
    assert (found.load_us, found.tick_us, found.update_us, found.restart_us) == (2.0, 4.0, 10.0, 2.0)
    assert found.memory_bytes == pytest.approx(300 * 2**20 / 1.5e6)
    assert (found.idle_mib, found.message_us, found.commit_ms) == (70.0, 250.0, 0.2)
    assert found.disk_bytes == Costs().disk_bytes


def test_without_a_run_costs_are_those_that_were_measured_before(tmp_path: Path):
    assert of_suite(tmp_path / "none.json", Costs()) == Costs()
    file = tmp_path / "bench.json"
    file.write_text("[]")
    assert of_suite(file, Costs()) == Costs()


def test_all_sizes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert scaling.main(["--bench", str(tmp_path / "none.json")]) == 0
    shown = capsys.readouterr().out
    for name, setups in PARTS:
        assert name in shown
        assert all(setup.name in shown for setup in setups)
    assert "Slurm as installed" in shown


def test_tables_are_put_into_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.md"
    begin, end = "<!-- simulated: begin -->\n", "<!-- simulated: end -->\n"
    page.write_text(f"before\n{begin}old\n{end}after\n")
    arguments = ["--bench", str(tmp_path / "none.json"), "--write", str(page)]
    assert scaling.main(arguments) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n| cost | measured | by |\n| --- |")
    assert text.endswith(f"\n{end}after\n")
    assert "old" not in text
    page.write_text("no place")
    assert scaling.main(arguments) == 1
    assert "there is no line" in capsys.readouterr().err


@pytest.mark.parametrize(("measured", "code"), [(12.0, 0), (30.0, 1)])
def test_a_model_that_is_far_off_is_an_error(measured: float, code: int, tmp_path: Path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- checked: begin -->\nold\n<!-- checked: end -->\n")
    rows = [(1, 10.0, 5.0), (2, measured, 6.0)]
    monkeypatch.setattr(scaling, "compared", lambda tasks, costs, rounds: (rows, costs))
    assert scaling.main(["--check", "--write", str(page)]) == code
    assert f"| 2 | {measured:.2f} s | 6.00 s |" in page.read_text()
    assert f"Two take {measured / 10:.2f} times as long as one; the model says 1.20" in page.read_text()
    assert "daemon, load" in capsys.readouterr().out


def test_the_page_about_scaling_has_places_for_both():
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert "new" in scaling.put(scaling.put(page, scaling.SIMULATED, "new"), scaling.CHECKED, "newer")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (90, "90 s"), (7200, "2 h"), (1e6, "11.6 days"), (1e9, "31.7 years")]
)
def test_durations_as_people_say_them(seconds: float, text: str):
    assert scaling.duration(seconds) == text


def test_real_daemons_can_be_set_beside_the_model():
    """How near it comes is for `--check`, on a machine with nothing else to do."""
    rows, real = compared(3000, Costs(), rounds=1)
    assert [daemons for daemons, _, _ in rows] == [1, 2]
    assert all(took > 0 and said > 0 for _, took, said in rows)
    assert real.load_us > 0
    assert real.disk_bytes > 0
    assert 10 < real.wire_bytes < 100
