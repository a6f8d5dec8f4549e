"""For those who write a gateway: the tests that every gateway has to pass (docs/gateways.md).

Derive a class of tests from `GatewayContract`, say how your gateway is made, and run pytest. Needs pytest and
pytest-asyncio: `pip install 'swarmd[testing]'`.
"""

try:
    import pytest
    import pytest_asyncio  # noqa: F401 - to say at once that it is missing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: swarmd.testing needs it; pip install 'swarmd[testing]'") from error

pytest.register_assert_rewrite(*(f"swarmd.testing.{name}" for name in ("basic", "contract", "far_engine", "recording")))

from swarmd.testing.basic import BasicContract  # noqa: E402
from swarmd.testing.contract import GatewayContract  # noqa: E402
from swarmd.testing.far_engine import FarEngineContract  # noqa: E402
from swarmd.testing.recording import ENDS, SWARM, Record, batch_of  # noqa: E402

__all__ = ["ENDS", "SWARM", "BasicContract", "FarEngineContract", "GatewayContract", "Record", "batch_of"]
