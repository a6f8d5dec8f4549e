"""The contract, kept by every gateway there is."""

from pathlib import Path

from swarmd.gateways.contract import ServerGateway
from swarmd.gateways.local import LocalGateway
from swarmd.gateways.pull import PullGateway
from tests.gateways.contract_suite import BasicContract, GatewayContract
from tests.gateways.recording import SWARM, Record, batch_of


class TestPullGateway(BasicContract):
    def make_gateway(self, folder: Path) -> ServerGateway:
        del folder
        return PullGateway()


class TestLocalGateway(GatewayContract):
    def make_gateway(self, folder: Path) -> ServerGateway:
        return LocalGateway(folder / "logs", cores=2, kill_grace=0.3, leave_on_close=True)


async def test_the_pull_gateway_hands_out_and_says_nothing():
    gateway, record = PullGateway(), Record()
    assert gateway.capabilities.hands_out
    await gateway.start(record.report)
    assert await gateway.queue_batch(batch_of("true")) is None
    await gateway.cancel_tasks(SWARM, [1], [1], "nobody hears it")
    assert record.updates == []
