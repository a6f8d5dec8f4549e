"""CreateSwarm, GetSwarm, ListSwarms, UpdateSwarm and DeleteSwarm."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_pb2, task_pb2
from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd.core.freezing import freeze
from swarmd.journal.journal import SwarmJournal
from swarmd.wire.names import POLICY_TO_PB
from tests.host.engine import Engine, Gate, settled
from tests.rpc.harness import Rpc, a_task, refused, serving, whole

# -- creating ----------------------------------------------------------------------------------------------------------


async def test_an_empty_request_makes_a_swarm_with_defaults(rpc: Rpc):
    rpc.registry.gateways["local"] = rpc.engine
    swarm = (await rpc.swarms.CreateSwarm(pb.CreateSwarmRequest())).swarm

    assert swarm.swarm_id.startswith("swarm-")
    assert swarm.max_concurrently_running == 10_000
    assert (swarm.paused, swarm.autopilot, swarm.fail_fast) == (False, False, False)
    assert swarm.gateway == "local"
    assert swarm.workflow_run_status == state_pb2.WORKFLOW_RUN_STATUS_RUNNING
    assert swarm.outcome == swarm_pb2.SWARM_OUTCOME_UNFINISHED
    assert swarm.revision == 0
    assert not swarm.in_memory
    assert swarm.create_time.seconds > 1_500_000_000


async def test_every_setting_arrives_and_output_only_fields_are_ignored(rpc: Rpc):
    swarm = await rpc.create(
        "my.swarm_1",
        display_name="Größe",
        max_concurrently_running=0,
        paused=True,
        fail_fast=True,
        workflow_run_status=state_pb2.WORKFLOW_RUN_STATUS_BOUND,
        working_directory="/tmp",
        environment={"A": "1"},
        revision=99,
        held_reason="?",
        task_counts=state_pb2.TaskCounts(total=5),
    )

    assert swarm == await rpc.get("my.swarm_1")
    assert (swarm.display_name, swarm.max_concurrently_running, swarm.paused, swarm.fail_fast) == (
        "Größe",
        0,
        True,
        True,
    )
    assert (swarm.working_directory, dict(swarm.environment)) == ("/tmp", {"A": "1"})
    assert (swarm.revision, swarm.task_counts.total) == (0, 0)
    assert "BOUND" in swarm.held_reason
    info = rpc.engine.swarms["my.swarm_1"]
    assert (str(info.working_directory), dict(info.environment)) == ("/tmp", {"A": "1"})


@pytest.mark.parametrize("swarm_id", ["-a", ".a", "a/b", "a b", "ä", "x" * 64, "a\n"])
async def test_a_swarm_id_that_cannot_be_is_refused(rpc: Rpc, swarm_id: str):
    with refused("INVALID_ARGUMENT", "INVALID_SWARM_ID", "swarm.swarm_id"):
        await rpc.create(swarm_id)


@pytest.mark.parametrize(
    ("settings", "code", "reason", "field"),
    [
        ({"max_concurrently_running": -1}, "INVALID_ARGUMENT", "NEGATIVE_LIMIT", "max_concurrently_running"),
        ({"gateway": "nowhere"}, "INVALID_ARGUMENT", "UNKNOWN_GATEWAY", "swarm.gateway"),
        ({"display_name": "é" * 129}, "RESOURCE_EXHAUSTED", "TEXT_TOO_LONG", "swarm.display_name"),
        ({"working_directory": "here"}, "INVALID_ARGUMENT", "INVALID_INPUT", "swarm.working_directory"),
        ({"environment": {"A=B": "1"}}, "INVALID_ARGUMENT", "INVALID_INPUT", "swarm.environment"),
        ({"environment": {"A": "x" * 70_000}}, "RESOURCE_EXHAUSTED", "TEXT_TOO_LONG", "swarm.environment"),
        (
            {"gateway_options": {str(number): "" for number in range(65)}},
            "INVALID_ARGUMENT",
            "INVALID_VALUE",
            "swarm.gateway_options",
        ),
        ({"gateway_options": {"k" * 1025: ""}}, "RESOURCE_EXHAUSTED", "TEXT_TOO_LONG", "swarm.gateway_options key"),
        ({"gateway_options": {"k": "é" * 513}}, "RESOURCE_EXHAUSTED", "TEXT_TOO_LONG", "swarm.gateway_options[k]"),
        ({"scheduling_policy": 77}, "INVALID_ARGUMENT", "INVALID_INPUT", "swarm.scheduling_policy"),
        ({"workflow_run_status": 77}, "INVALID_ARGUMENT", "INVALID_STATUS", "swarm.workflow_run_status"),
        ({"gateway": "pull", "autopilot": True}, "FAILED_PRECONDITION", "AUTOPILOT_NEEDS_ENGINE", "swarm.autopilot"),
    ],
)
async def test_a_setting_that_cannot_be_is_refused_and_makes_nothing(
    rpc: Rpc, settings: dict[str, Any], code: str, reason: str, field: str
):
    with refused(code, reason, field):
        await rpc.create("s", **settings)
    assert rpc.registry.all() == []


@pytest.mark.parametrize("with_snapshot", [False, True])
async def test_the_options_for_the_gateway_are_there_after_a_restart_too(home: Path, with_snapshot: bool):
    """As many as there may be, each as long as it may be."""
    options = {f"{number:02}" + "ö" * 511: "☠" * 341 for number in range(64)}
    async with serving(home) as rpc:
        made = await rpc.create("s", gateway_options=options)
        assert dict(made.gateway_options) == options == rpc.engine.swarms["s"].options
        if with_snapshot:
            journal = rpc.hosted("s").journal
            assert isinstance(journal, SwarmJournal)
            journal.store.switch(await asyncio.to_thread(journal.store.prepare_segment))
            await asyncio.to_thread(journal.store.keep_snapshot, 1, freeze(rpc.hosted("s").swarm))
    async with serving(home) as rpc:
        assert dict((await rpc.get("s")).gateway_options) == options
        assert rpc.engine.swarms["s"].options == options
        assert dict((await rpc.swarms.ListSwarms(pb.ListSwarmsRequest())).swarms[0].gateway_options) == options


@pytest.mark.parametrize("with_snapshot", [False, True])
@pytest.mark.parametrize("policy", swarm_pb2.SchedulingPolicy.values())
async def test_the_policy_is_told_and_there_after_a_restart_too(
    home: Path, policy: swarm_pb2.SchedulingPolicy, with_snapshot: bool
):
    told = policy or swarm_pb2.SCHEDULING_POLICY_FIRST_COME_FIRST_SERVED
    async with serving(home) as rpc:
        assert (await rpc.create("s", scheduling_policy=policy)).scheduling_policy == told
        if with_snapshot:
            journal = rpc.hosted("s").journal
            assert isinstance(journal, SwarmJournal)
            journal.store.switch(await asyncio.to_thread(journal.store.prepare_segment))
            await asyncio.to_thread(journal.store.keep_snapshot, 1, freeze(rpc.hosted("s").swarm))
    async with serving(home) as rpc:
        assert (await rpc.get("s")).scheduling_policy == told
        assert POLICY_TO_PB[rpc.hosted("s").state.scheduling_policy] == told


async def test_the_policy_cannot_be_changed(rpc: Rpc):
    await rpc.create("s")
    request = pb.UpdateSwarmRequest(
        swarm=swarm_pb2.Swarm(swarm_id="s", scheduling_policy=swarm_pb2.SCHEDULING_POLICY_FAIR_SHARE)
    )
    request.update_mask.paths.append("scheduling_policy")
    with refused("INVALID_ARGUMENT", "INVALID_MASK", "update_mask"):
        await rpc.swarms.UpdateSwarm(request)


async def test_a_taken_id_is_refused(rpc: Rpc):
    await rpc.create("s")
    with refused("ALREADY_EXISTS", "SWARM_EXISTS", "swarm.swarm_id"):
        await rpc.create("s")


async def test_creating_is_repeated_without_harm(rpc: Rpc):
    request = pb.CreateSwarmRequest(swarm=swarm_pb2.Swarm(gateway="engine"), request_id="r")
    answers = await asyncio.gather(*(rpc.swarms.CreateSwarm(request) for _ in range(5)))
    again = await rpc.swarms.CreateSwarm(request)

    assert len({answer.swarm.swarm_id for answer in [*answers, again]}) == 1
    assert len(rpc.registry.all()) == 1
    request.swarm.paused = True
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED", "request_id"):
        await rpc.swarms.CreateSwarm(request)


async def test_there_are_only_so_many_swarms(home: Path):
    async with serving(home, max_swarms=2) as rpc:
        await rpc.create("a")
        await rpc.create("b")
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_SWARMS") as found:
            await rpc.create("c")
        assert found.metadata["limit"] == "max_swarms"
        await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="a"))
        await rpc.create("c")


async def test_a_gateway_that_cannot_take_a_swarm_leaves_none_behind(home: Path):
    class Unwilling(Engine):
        async def add_swarm(self, swarm: object) -> None:
            raise RuntimeError("no")

    async with serving(home, engine=Unwilling()) as rpc:
        with refused("INTERNAL"):
            await rpc.create("s")
        await rpc.create("other", gateway="pull")
        assert [swarm.swarm_id for swarm in rpc.registry.all()] == ["other"]


# -- the only swarm there is -------------------------------------------------------------------------------------------


async def test_an_empty_swarm_id_means_the_only_swarm(rpc: Rpc):
    with refused("NOT_FOUND", "UNKNOWN_SWARM", "swarm_id") as none:
        await rpc.get()
    assert "CreateSwarm" in none.message
    await rpc.create("a")
    assert (await rpc.get()).swarm_id == "a"
    await rpc.create("b")
    with refused("INVALID_ARGUMENT", "SWARM_ID_REQUIRED", "swarm_id"):
        await rpc.get()
    with refused("INVALID_ARGUMENT", "SWARM_ID_REQUIRED", "swarm_id"):
        await rpc.has_work()
    with refused("INVALID_ARGUMENT", "SWARM_ID_REQUIRED", "swarm_id"):
        await rpc.tick()
    assert (await rpc.get("b")).swarm_id == "b"


@pytest.mark.parametrize("name", ["nobody", "é" * 3000, "\n\0%" * 1000])
async def test_an_unknown_swarm_is_an_error_that_every_client_can_read(rpc: Rpc, name: str):
    """Headers are bounded: what a client sends must come back cut, not break the answer."""
    with refused("NOT_FOUND", "UNKNOWN_SWARM", "swarm_id"):
        await rpc.get(name)


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_the_full_view_has_every_array_with_its_counts(rpc: Rpc):
    await rpc.create()
    one_array = array_pb2.Array(array_id=1, name="one", max_concurrently_running=2, command="run")
    arrays: list[int | array_pb2.Array] = [one_array, 2]
    await rpc.add(whole([a_task(n, array=1 + n // 4) for n in range(1, 6)], arrays=arrays))
    await rpc.tick()

    basic, full = await rpc.get(), await rpc.get(full=True)
    assert not basic.arrays
    one, two = full.arrays
    assert (one.array_id, one.name, one.max_concurrently_running, one.command) == (1, "one", 2, "run")
    assert (one.task_counts.total, one.task_counts.queued, one.task_counts.ready) == (3, 2, 1)
    assert not two.HasField("max_concurrently_running")
    assert two.task_counts.queued == 2
    full.ClearField("arrays")
    assert full == basic


async def test_swarms_are_listed_in_the_order_of_creation_page_by_page(rpc: Rpc):
    for number in range(7):
        await rpc.create(f"s{number}")
    seen, token = [], ""
    for _ in range(4):
        page = await rpc.swarms.ListSwarms(pb.ListSwarmsRequest(page_size=2, page_token=token))
        seen += [swarm.swarm_id for swarm in page.swarms]
        token = page.next_page_token

    assert seen == [f"s{number}" for number in range(7)]
    assert token == ""
    assert len((await rpc.swarms.ListSwarms(pb.ListSwarmsRequest())).swarms) == 7
    with refused("INVALID_ARGUMENT", "INVALID_INPUT", "page_size"):
        await rpc.swarms.ListSwarms(pb.ListSwarmsRequest(page_size=-1))
    for wrong in ("x", "AAAA", "é", "OTk5OTk5OTk5OTk5OTk5OTk5OTk6Nw=="):
        with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token"):
            await rpc.swarms.ListSwarms(pb.ListSwarmsRequest(page_token=wrong))


# -- updating ----------------------------------------------------------------------------------------------------------


async def test_only_what_the_mask_names_is_changed(rpc: Rpc):
    await rpc.create(display_name="old", max_concurrently_running=5)
    wanted = swarm_pb2.Swarm(swarm_id="s", display_name="new", max_concurrently_running=9, paused=True)

    answer = await rpc.swarms.UpdateSwarm(
        pb.UpdateSwarmRequest(swarm=wanted, update_mask=FieldMask(paths=["paused", "display_name"]))
    )

    assert (answer.swarm.display_name, answer.swarm.paused, answer.swarm.max_concurrently_running) == ("new", True, 5)
    off = pb.UpdateSwarmRequest(swarm=swarm_pb2.Swarm(), update_mask=FieldMask(paths=["paused", "display_name"]))
    answer = await rpc.swarms.UpdateSwarm(off)
    assert (answer.swarm.display_name, answer.swarm.paused) == ("", False)


async def test_without_a_mask_what_is_set_is_changed(rpc: Rpc):
    await rpc.create(paused=True, display_name="d")

    answer = await rpc.swarms.UpdateSwarm(
        pb.UpdateSwarmRequest(swarm=swarm_pb2.Swarm(max_concurrently_running=0, fail_fast=True))
    )

    swarm = answer.swarm
    assert (swarm.max_concurrently_running, swarm.fail_fast, swarm.paused, swarm.display_name) == (0, True, True, "d")


async def test_a_masked_field_that_is_unset_goes_back_to_its_default(rpc: Rpc):
    """An unset limit must not be read as 0, which would pause the swarm."""
    await rpc.create(max_concurrently_running=5, workflow_run_status=state_pb2.WORKFLOW_RUN_STATUS_STOPPED)
    mask = FieldMask(paths=["max_concurrently_running", "workflow_run_status"])

    swarm = (await rpc.swarms.UpdateSwarm(pb.UpdateSwarmRequest(update_mask=mask))).swarm

    assert swarm.max_concurrently_running == 10_000
    assert swarm.workflow_run_status == state_pb2.WORKFLOW_RUN_STATUS_RUNNING


@pytest.mark.parametrize(
    ("wrong", "paths", "reason", "field"),
    [
        ({"max_concurrently_running": -5}, ["paused", "max_concurrently_running"], "NEGATIVE_LIMIT", ""),
        ({"workflow_run_status": 50}, ["paused", "workflow_run_status"], "INVALID_STATUS", "swarm.workflow_run_status"),
        ({"display_name": "x" * 300}, ["paused", "display_name"], "TEXT_TOO_LONG", "swarm.display_name"),
        ({}, ["paused", "gateway"], "INVALID_MASK", "update_mask"),
        ({}, ["paused", "revision"], "INVALID_MASK", "update_mask"),
        ({"autopilot": True}, ["paused", "autopilot", "max_concurrently_running"], "AUTOPILOT_NEEDS_ENGINE", ""),
    ],
)
async def test_an_update_is_applied_wholly_or_not_at_all(
    rpc: Rpc, wrong: dict[str, object], paths: list[str], reason: str, field: str
):
    before = await rpc.create(gateway="pull", max_concurrently_running=3)
    settings: dict[str, object] = {"paused": True, "max_concurrently_running": 8, **wrong}
    request = pb.UpdateSwarmRequest(
        swarm=swarm_pb2.Swarm(**settings),  # type: ignore[arg-type]
        update_mask=FieldMask(paths=paths),
    )
    codes = {"autopilot": "FAILED_PRECONDITION", "display_name": "RESOURCE_EXHAUSTED"}
    code = next((codes[field] for field in wrong if field in codes), "INVALID_ARGUMENT")
    with refused(code, reason, field):
        await rpc.swarms.UpdateSwarm(request)

    assert await rpc.get() == before


async def test_an_update_that_changes_nothing_has_no_new_revision(rpc: Rpc):
    before = await rpc.create(max_concurrently_running=3)
    same = pb.UpdateSwarmRequest(swarm=swarm_pb2.Swarm(max_concurrently_running=3))

    assert (await rpc.swarms.UpdateSwarm(same)).swarm == before


async def test_the_autopilot_is_turned_on_and_off(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(1), a_task(2, 1)]))
    await rpc.swarms.UpdateSwarm(pb.UpdateSwarmRequest(swarm=swarm_pb2.Swarm(autopilot=True)))
    await settled(lambda: rpc.engine.offered == [[1]], "the first batch, without a Tick")
    off = pb.UpdateSwarmRequest(swarm=swarm_pb2.Swarm(), update_mask=FieldMask(paths=["autopilot"]))
    assert not (await rpc.swarms.UpdateSwarm(off)).swarm.autopilot
    await rpc.tell("DONE", 1)
    await asyncio.sleep(0.05)

    assert rpc.engine.offered == [[1]]
    assert (await rpc.has_work()).has_work


# -- deleting ----------------------------------------------------------------------------------------------------------


async def test_an_active_swarm_is_deleted_only_by_force_and_its_tasks_are_cancelled_at_the_engine(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    await rpc.tick()
    with refused("FAILED_PRECONDITION", "SWARM_IS_ACTIVE", "force"):
        await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="s"))
    assert (await rpc.get()).task_counts.active == 3
    await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="s", force=True))

    assert sorted(task_id for each in rpc.engine.cancelled for task_id in each.task_ids) == [1, 2, 3]
    assert rpc.engine.swarms == {}
    with refused("NOT_FOUND", "UNKNOWN_SWARM"):
        await rpc.get("s")
    await rpc.create("s")
    assert (await rpc.get("s")).task_counts.total == 0


async def test_a_create_that_is_repeated_after_the_delete_makes_a_new_swarm(rpc: Rpc):
    request = pb.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s", gateway="engine"), request_id="r")
    await rpc.swarms.CreateSwarm(request)
    await rpc.add(whole(1))
    await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="s", force=True))
    await rpc.swarms.CreateSwarm(request)

    assert (await rpc.get("s")).task_counts.total == 0


async def test_a_reset_waits_until_the_engine_knows_what_was_cancelled(rpc: Rpc, monkeypatch: pytest.MonkeyPatch):
    await rpc.create()
    await rpc.add(whole(1))
    await rpc.tick()
    gate, order = asyncio.Event(), []
    cancel = rpc.engine.cancel_tasks

    async def slow(*arguments: Any) -> None:
        await gate.wait()
        order.append("told")
        await cancel(*arguments)

    monkeypatch.setattr(rpc.engine, "cancel_tasks", slow)
    selector = task_pb2.TaskSelector(all=True)
    await rpc.swarms.CancelTasks(pb.CancelTasksRequest(selector=selector))
    resetting = asyncio.create_task(reset(rpc, selector, order))
    await asyncio.sleep(0.05)
    assert order == []
    gate.set()
    await resetting

    assert order == ["told", "reset"]


async def reset(rpc: Rpc, selector: task_pb2.TaskSelector, order: list[str]) -> None:
    await rpc.swarms.ResetTasks(pb.ResetTasksRequest(selector=selector))
    order.append("reset")


async def test_deleting_needs_a_name_also_when_there_is_only_one(rpc: Rpc):
    await rpc.create()
    with refused("INVALID_ARGUMENT", "SWARM_ID_REQUIRED", "swarm_id"):
        await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(force=True))
    with refused("NOT_FOUND", "UNKNOWN_SWARM", "swarm_id"):
        await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="t"))
    assert (await rpc.get()).swarm_id == "s"


async def test_a_swarm_that_is_deleted_while_a_batch_is_queued_leaves_nothing_at_the_engine(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    gate = Gate()
    rpc.engine.behaviour = gate
    tick = asyncio.create_task(rpc.tick())
    await settled(lambda: rpc.engine.calls_now, "the call")
    await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="s", force=True))
    told_before = len(rpc.engine.cancelled)
    gate.open()

    assert (await tick).update.task_statuses, "the tick is answered"
    assert [each.task_ids for each in rpc.engine.cancelled[told_before:]] == [[1, 2]]


async def test_who_waits_for_a_swarm_hears_of_its_end(rpc: Rpc):
    await rpc.create()
    waiting = asyncio.create_task(rpc.has_work(wait=60))
    watching = rpc.watch()
    assert (await watching.read()).HasField("snapshot")
    await settled(lambda: rpc.hosted()._waiting, "the call that waits")
    await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="s"))

    assert not (await waiting).has_work
    assert (await watching.read()).end.reason == pb.WatchEnd.REASON_DELETED
