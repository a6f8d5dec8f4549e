"""Metrics of a real daemon: what is counted, what the dashboard asks for, and what the documentation says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import DaemonProcess, running
from tests.e2e.grpcurl import ask, call
from tests.observing.scraping import Scrape, fetch, port_of, run_workflow, scrape, scraped_until

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "packaging" / "grafana" / "swarmd.json"
GUIDE = ROOT / "docs" / "operating.md"
NAME = re.compile(r"\b(?:swarmd|process)_[a-z_]+\b")

FLOW = """
name: flow
arrays:
  good: {count: 20, command: 'true', max_concurrently_running: 5}
  bad: {count: 3, command: 'exit 3'}
"""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running(environment={"SWARMD_METRICS": "127.0.0.1:0"}) as process:
        yield process


@pytest.fixture(scope="module")
def port(daemon: DaemonProcess) -> int:
    return port_of(daemon)


@pytest.fixture(scope="module")
def flow(daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a swarm that is over: 20 tasks of one array done, 3 of another failed."""
    done = run_workflow(daemon, tmp_path_factory.mktemp("flow"), FLOW)
    assert done.returncode == 1, done.stderr
    return next(
        str(each["swarm_id"])
        for each in call(daemon, "swarm.v1.SwarmService/ListSwarms")[0]["swarms"]
        if each["swarm_id"].startswith("flow")
    )


@pytest.fixture(scope="module")
def page(daemon: DaemonProcess, port: int, flow: str) -> Scrape:
    """After the run."""
    return scraped_until(port, "swarmd_swarm_tasks", 3, swarm=flow, state="failed")


def test_a_run_can_be_read_from_it(page: Scrape, flow: str):
    states = page.by("swarmd_swarm_tasks", "state", swarm=flow)
    assert states == {"waiting": 0, "ready": 0, "active": 0, "done": 20, "failed": 3, "cancelled": 0}
    done = page.by("swarmd_array_tasks", "array", swarm=flow, state="done")
    failed = page.by("swarmd_array_tasks", "array", swarm=flow, state="failed")
    assert (done, failed) == ({"good": 20, "bad": 0}, {"good": 0, "bad": 3})
    assert page.by("swarmd_array_capacity_tasks", "array", swarm=flow) == {"good": 5, "bad": float("inf")}
    assert page.value("swarmd_batch_size_tasks_sum", gateway="local") >= 23
    batches = page.value("swarmd_batches_total", gateway="local", outcome="queued")
    assert batches == page.value("swarmd_batch_size_tasks_count", gateway="local") > 0
    assert page.value("swarmd_gateway_call_duration_seconds_count", gateway="local", call="queue_batch") == batches
    assert page.value("swarmd_batches_under_way", gateway="local") == 0
    assert page.value("swarmd_tick_duration_seconds_count") > 0
    commits = page.value("swarmd_journal_commit_duration_seconds_count")
    assert page.value("swarmd_journal_group_events_sum") >= commits > 0
    assert page.value("swarmd_journal_bytes_total") > 0
    assert page.value("swarmd_rpc_calls_total", method="swarm.v1.SwarmService/CreateSwarm", code="OK") == 1
    assert page.value("swarmd_rpc_duration_seconds_count", method="swarm.v1.SwarmService/CreateSwarm") == 1
    assert page.value("swarmd_healthy") == 1
    assert page.value("process_resident_memory_bytes") > 10_000_000


def test_every_metric_that_the_dashboard_asks_for_is_there(page: Scrape):
    asked = {name for text in queries(json.loads(DASHBOARD.read_text())) for name in NAME.findall(text)}
    assert len(asked) > 30
    assert asked <= page.names | names_of_families(page)


def test_every_metric_is_on_the_dashboard(page: Scrape):
    asked = {name for text in queries(json.loads(DASHBOARD.read_text())) for name in NAME.findall(text)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert {name for name in names_of_families(page) if name.startswith("swarmd_")} - shown == set()


def test_every_metric_is_in_the_documentation_and_nothing_else_is(page: Scrape):
    documented = set(re.findall(r"^\| `(swarmd_[a-z_]+)` \|", GUIDE.read_text(), re.MULTILINE))
    assert documented == {name for name in names_of_families(page) if name.startswith("swarmd_")}


def test_every_metric_says_what_it_is(page: Scrape):
    assert [name for name, family in page.families.items() if len(family.documentation) < 15] == []


def names_of_families(page: Scrape) -> set[str]:
    """As Prometheus has them: counters with their ending."""
    return {f"{name}_total" if family.type == "counter" else name for name, family in page.families.items()}


def queries(node: object) -> Iterator[str]:
    """Every query of a dashboard, those of its variables, too."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            else:
                yield from queries(value)
    elif isinstance(node, list):
        for each in node:
            yield from queries(each)


def test_a_swarm_that_is_deleted_takes_its_series_with_it(daemon: DaemonProcess, port: int):
    call(daemon, "swarm.v1.SwarmService/CreateSwarm", {"swarm": {"swarm_id": "passing", "gateway": "pull"}})
    assert scraped_until(port, "swarmd_swarm_limit_tasks", 10_000, swarm="passing").mentions("swarm", "passing")
    call(daemon, "swarm.v1.SwarmService/DeleteSwarm", {"swarm_id": "passing"})
    assert not scraped_until(port, "swarmd_swarm_limit_tasks", 0, swarm="passing").mentions("swarm", "passing")


def test_names_that_callers_make_up_are_counted_together(daemon: DaemonProcess, port: int):
    before = scrape(port).value("swarmd_rpc_calls_total", method="other", code="UNIMPLEMENTED")
    empty = ROOT / "tests" / "observing" / "made_up.proto"
    for number in range(3):
        done = ask(
            daemon,
            f"made.up.Service{number}/Call",
            data=[{}],
            options=["-import-path", str(empty.parent), "-proto", empty.name],
        )
        assert "Unimplemented" in done.stderr
    page = scraped_until(port, "swarmd_rpc_calls_total", before + 3, method="other", code="UNIMPLEMENTED")
    assert not any("made.up" in dict(labels).get("method", "") for _, labels in page.samples)


def test_errors_are_counted_by_code_and_reason(daemon: DaemonProcess, port: int):
    ask(daemon, "swarm.v1.SwarmService/GetSwarm", data=[{"swarm_id": "nobody"}])
    method = "swarm.v1.SwarmService/GetSwarm"
    page = scraped_until(port, "swarmd_rpc_calls_total", 1, method=method, code="NOT_FOUND")
    assert page.value("swarmd_rpc_refused_total", reason="UNKNOWN_SWARM") == 1


def test_strange_names_of_arrays_do_no_harm(daemon: DaemonProcess, port: int):
    swarm, name = "strange", 'a"b\\c\nd{} 1\n# evil'
    call(daemon, "swarm.v1.SwarmService/CreateSwarm", {"swarm": {"swarm_id": swarm, "gateway": "pull"}})
    arrays = [{"array_id": 1, "name": name}, {"array_id": 2, "name": name}]
    call(daemon, "swarm.v1.SwarmService/AddTasks", {"swarm_id": swarm, "arrays": arrays})
    page = scraped_until(port, "swarmd_swarm_limit_tasks", 10_000, swarm=swarm)
    assert page.by("swarmd_array_tasks", "array_id", swarm=swarm, array=name, state="ready") == {"1": 0, "2": 0}


def test_nothing_but_metrics_is_served(port: int):
    assert fetch(port, "/")[0] == 404
    assert fetch(port, "/metrics", "DELETE")[0] == 405
    status, headers, _ = fetch(port)
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
