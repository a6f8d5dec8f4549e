"""An engine that is there and gone again, all the time."""

import asyncio

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from tests.gateways.remote.scripted import group
from tests.gateways.remote.test_news import queued


async def test_an_engine_that_ends_its_stream_at_once_is_called_ever_more_seldom(gateway, engine, record, monkeypatch):
    async def over(request, context):
        engine.places.append(request.resume_token)
        yield pb.WatchUpdatesResponse(resume_token="0")

    swarm = await queued(gateway, engine)
    await engine.stop()
    monkeypatch.setattr(engine, "WatchUpdates", over)
    await engine.start()
    engine.places.clear()
    await asyncio.sleep(3.0)
    assert 1 <= len(engine.places) <= 8
    monkeypatch.undo()
    await engine.stop()
    await engine.start()
    await engine.tell(swarm, group("DONE", 1))
    await record.ended(1)
