"""The embedded gateway: tasks run as processes of this machine, as many at once as fit its cores and memory.

The daemon makes a `LocalGateway`; `output_paths` says where a task's output is. All else is private to the package:
`gateway` speaks the contract, `waiting` and `machine` decide what starts next, `execution`, `process` and `exits` look
after what runs, `output` and `news` tell of it.
"""

from swarmd.gateways.local.gateway import LocalGateway
from swarmd.gateways.local.output import OutputPaths, output_paths

__all__ = ["LocalGateway", "OutputPaths", "output_paths"]
