"""Traces: from the client's call to the task's environment, through a real daemon, to a real receiver."""

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import launched, running, short_home, until
from tests.e2e.grpcurl import ask, call
from tests.observing.collector import Collector, Received, collecting

SCHEDULER, SWARM = "swarm.v1.SchedulerService", "swarm.v1.SwarmService"
TICK = f"{SCHEDULER}/Tick"

pytestmark = pytest.mark.e2e


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


def load(daemon, swarm: str, command: str, **settings) -> None:
    call(daemon, f"{SWARM}/CreateSwarm", {"swarm": {"swarm_id": swarm, "gateway": "local", **settings}})
    array = {"array_id": 1, "name": "a", "command": command}
    task = {"task_id": 1, "array_id": 1, "task_resources_id": 1}
    chunk = {"arrays": [array], "task_resources": [{"task_resources_id": 1}], "tasks": [task]}
    call(daemon, f"{SWARM}/AddTasks", {"swarm_id": swarm, **chunk})


def only(spans: list[Received], **attributes: str) -> Received:
    (span,) = [each for each in spans if attributes.items() <= each.attributes.items()]
    return span


def test_the_clients_trace_goes_on_to_the_task(collector: Collector, tmp_path: Path):
    trace, span, told = secrets.token_hex(16), secrets.token_hex(8), tmp_path / "told"
    with running(environment={"SWARMD_OTLP_ENDPOINT": collector.endpoint}) as daemon:
        load(daemon, "s", f"echo $TRACEPARENT > {told}.new; mv {told}.new {told}")
        call(daemon, TICK, {"swarm_id": "s"}, options=["-H", f"traceparent: 00-{trace}-{span}-01"])
        until(told.exists, "the task to tell its trace")
        assert daemon.stop() == 0, "a stop sends what is left"
        assert "Traceback" not in daemon.log
    server = only(collector.named(TICK))
    tick = only(collector.named("tick"))
    queueing = only(collector.named("queue_batch"))
    assert {each.trace for each in (server, tick, queueing)} == {trace}
    assert (server.parent, tick.parent, queueing.parent) == (span, server.span, tick.span)
    assert told.read_text().strip() == f"00-{trace}-{queueing.span}-01"
    assert server.attributes["rpc.grpc.status_code"] == "OK"
    assert (server.attributes["swarm.id"], tick.attributes["swarm.id"]) == ("s", "s")
    assert queueing.attributes["swarm.batch_size"] == 1
    assert str(queueing.attributes["swarm.batch_id"]).startswith("s-")
    assert server.resource["service.name"] == "swarmd"


def test_the_clients_own_spans_go_on_in_the_daemon(collector: Collector):
    """For a Python program that uses OpenTelemetry, without a word of it to the client; from any thread."""
    from opentelemetry.sdk.trace import TracerProvider

    from swarmd.client.blocking import SwarmClient

    tracer = TracerProvider().get_tracer("program")
    with running(environment={"SWARMD_OTLP_ENDPOINT": collector.endpoint}) as daemon:
        with SwarmClient(daemon.address) as client, tracer.start_as_current_span("work") as span:
            live = client.create_swarm("s", gateway="pull")
            live.tick()
        assert daemon.stop() == 0
    made, ticked = only(collector.named(f"{SWARM}/CreateSwarm")), only(collector.named(TICK))
    context = span.get_span_context()
    assert {made.trace, ticked.trace} == {f"{context.trace_id:032x}"}
    assert {made.parent, ticked.parent} == {f"{context.span_id:016x}"}


def test_without_a_trace_of_the_client_each_call_and_each_tick_of_the_autopilot_has_one(collector: Collector):
    with running(environment={"SWARMD_OTLP_ENDPOINT": collector.endpoint}) as daemon:
        load(daemon, "s", "true", autopilot=True)
        until(
            lambda: call(daemon, f"{SCHEDULER}/HasWork", {"swarm_id": "s"})[0].get("finished", False),
            "the swarm to be finished",
        )
        assert daemon.stop() == 0
    queueing = only(collector.named("queue_batch"))
    tick = only([span for span in collector.named("tick") if span.span == queueing.parent])
    calls = [span for span in collector.spans if span.name.startswith("swarm.v1.")]
    assert (tick.parent, tick.trace) == ("", queueing.trace)
    assert {span.parent for span in calls} == {""}
    assert len({span.trace for span in [*calls, tick]}) == len(calls) + 1


def test_an_error_is_in_its_span(collector: Collector):
    with running("--in-memory", environment={"SWARMD_OTLP_ENDPOINT": collector.endpoint}) as daemon:
        ask(daemon, f"{SWARM}/GetSwarm", data=[{"swarm_id": "nobody"}])
        assert daemon.stop() == 0
    span = only(collector.named(f"{SWARM}/GetSwarm"))
    assert span.attributes["rpc.grpc.status_code"] == "NOT_FOUND"
    assert span.attributes["swarm.error_reason"] == "UNKNOWN_SWARM"


@pytest.mark.parametrize("parent", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-\u00e9"])
def test_a_traceparent_that_is_none_does_no_harm(collector: Collector, parent: str):
    with running("--in-memory", environment={"SWARMD_OTLP_ENDPOINT": collector.endpoint}) as daemon:
        ask(daemon, f"{SWARM}/ListSwarms", data=[{}], options=["-H", f"traceparent: {parent}"])
        call(daemon, f"{SWARM}/ListSwarms")
        assert daemon.stop() == 0
    assert {span.parent for span in collector.named(f"{SWARM}/ListSwarms")} == {""}


def test_spans_are_sent_while_it_runs(collector: Collector):
    environment = {"SWARMD_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running("--in-memory", environment=environment) as daemon:
        call(daemon, f"{SWARM}/ListSwarms")
        collector.wait_for(f"{SWARM}/ListSwarms")
        assert daemon.process.poll() is None


def test_a_collector_that_is_gone_or_silent_holds_nothing_up():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (silent.getsockname()[1], 1):
            with running("--in-memory", environment={"SWARMD_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}) as daemon:
                for _ in range(3):
                    call(daemon, f"{SWARM}/ListSwarms")
                assert daemon.stop() == 0


@pytest.mark.parametrize(
    "endpoint", ["localhost:4317", "ftp://localhost:4317", "http://localhost", "http://localhost:x"]
)
def test_an_endpoint_that_is_none_is_refused(endpoint: str):
    with short_home() as home:
        with launched("--in-memory", home=home, environment={"SWARMD_OTLP_ENDPOINT": endpoint}) as process:
            assert process.wait(60) == 2
        said = (home / "stderr").read_text()
    remedy = "write http://HOST:PORT (4317 is a collector's usual port)"
    assert said == f"swarmd: otlp_endpoint: {endpoint!r} cannot be used; {remedy}\n"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ModuleNotFoundError('gone', name=__name__)\n")
    environment = {"SWARMD_OTLP_ENDPOINT": "http://localhost:4317", "PYTHONPATH": str(tmp_path)}
    with short_home() as home:
        with launched("--in-memory", home=home, environment=environment) as process:
            assert process.wait(60) == 2
        said = (home / "stderr").read_text()
    assert "pip install 'swarmd[otel]'" in said
    assert "Traceback" not in said


def test_without_traces_nothing_of_it_is_imported_and_tasks_hear_of_none(tmp_path: Path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise SystemError('it was imported')\n")
    (tmp_path / "prometheus_client").mkdir()
    (tmp_path / "prometheus_client" / "__init__.py").write_text("raise SystemError('it was imported')\n")
    told = tmp_path / "told"
    with running(environment={"PYTHONPATH": str(tmp_path)}) as daemon:
        load(daemon, "s", f"echo trace:$TRACEPARENT > {told}.new; mv {told}.new {told}")
        call(daemon, TICK, {"swarm_id": "s"})
        until(told.exists, "the task to tell its trace")
    assert told.read_text() == "trace:\n"
