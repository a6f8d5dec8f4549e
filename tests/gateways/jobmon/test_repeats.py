"""Calls that would queue twice, with the real server: its own database says how many instances there are."""

import asyncio

import pytest

from swarmd.core.model import TaskResources
from swarmd.gateways.contract import Found, OutcomeUnknownError
from tests.gateways.jobmon.proxy import FaultyProxy
from tests.gateways.recording import batch_of

pytestmark = pytest.mark.timeout(600)
"""The first test may have to install Jobmon."""

RESOURCES = TaskResources(1, cluster="dummy", queue="null.q")


def test_the_server_makes_another_instance_for_every_repeat(jobmon):
    """Why everything else here is as it is."""
    workflow = jobmon.workflow([["true"]], cluster="dummy")
    for _ in range(2):
        jobmon.post(
            f"/array/{workflow.array_ids[0]}/queue_task_batch",
            task_ids=workflow.task_ids,
            task_resources_id=workflow.resources_id,
            workflow_run_id=workflow.run_id,
            cluster_id=1,
        )
    assert list(jobmon.instances(workflow).values()) == [2]


@pytest.mark.parametrize("fault", ["reset", "half", "double_answer", "held"])
async def test_a_call_whose_answer_is_in_trouble_makes_one_instance_a_task(jobmon, drive, fault):
    workflow = await asyncio.to_thread(jobmon.workflow, [["true"] * 3], cluster="dummy")
    await asyncio.to_thread(jobmon.set_run_status, workflow.run_id, "I", "O", "R")
    asked = batch_of(*["true"] * 3, first_id=workflow.task_ids[0], resources=RESOURCES)
    async with FaultyProxy(int(jobmon.url.rpartition(":")[2]), seed=1, share=0).serving() as proxy:
        proxy.queue_faults = [fault]
        driven = await drive(proxy.url, workflow, doubt_seconds=20.0)
        if fault == "double_answer":
            assert not (await driven.gateway.queue_batch(asked)).refusals
        else:
            with pytest.raises(OutcomeUnknownError):
                await driven.gateway.queue_batch(asked)
            found = await driven.found(asked)
            assert found.found is Found.QUEUED
            assert not found.refusals
        assert set(jobmon.instances(workflow).values()) == {1}
        assert set(jobmon.statuses(workflow).values()) == {"Q"}


async def test_a_call_that_never_arrives_is_made_again_when_it_is_over(jobmon, drive):
    workflow = await asyncio.to_thread(jobmon.workflow, [["true"] * 3], cluster="dummy")
    await asyncio.to_thread(jobmon.set_run_status, workflow.run_id, "I", "O", "R")
    asked = batch_of(*["true"] * 3, first_id=workflow.task_ids[0], resources=RESOURCES)
    async with FaultyProxy(int(jobmon.url.rpartition(":")[2]), seed=1, share=0).serving() as proxy:
        proxy.queue_faults = ["refuse"]
        driven = await drive(proxy.url, workflow, doubt_seconds=1.0)
        with pytest.raises(OutcomeUnknownError):
            await driven.gateway.queue_batch(asked)
        found = await driven.found(asked)
        assert found.found is Found.NOT_QUEUED
        again = batch_of(*["true"] * 3, first_id=workflow.task_ids[0], attempt=2, resources=RESOURCES)
        assert not (await driven.gateway.queue_batch(again)).refusals
        assert set(jobmon.instances(workflow).values()) == {1}
