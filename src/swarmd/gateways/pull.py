"""The gateway without an engine: whoever calls Tick is handed the batches, runs them, and reports with ApplyUpdate.

Here is only what the scheduler sees of it: every batch is taken, and nothing is known of it afterwards.
"""

from pydantic import BaseModel, ConfigDict

from swarmd.core.batch import Batch
from swarmd.gateways.catalogue import GatewayContext
from swarmd.gateways.contract import Capabilities, QueueOutcome, ServerGateway


class PullGateway(ServerGateway):
    """Takes every batch and queues nothing anywhere. A cancel reaches nobody: the caller sees it in the statuses."""

    name = "pull"
    capabilities = Capabilities(hands_out=True)

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        del batch
        return None


class _NoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")


def made(context: GatewayContext) -> PullGateway:
    """There is nothing to set."""
    context.read(_NoOptions)
    return PullGateway()
