"""The suite that every gateway of the package is held to: what other packages get as `swarmd.testing`."""

from swarmd.testing import BasicContract, FarEngineContract, GatewayContract

__all__ = ["BasicContract", "FarEngineContract", "GatewayContract"]
