"""The embedded gateway: tasks run as processes of this machine, as many at once as fit its cores and memory.

The daemon makes a `LocalGateway`; `output_paths` says where a task's output is. All else is private to the package:
`gateway` speaks the contract, `waiting` and `machine` decide what starts next, `execution`, `process` and `exits` look
after what runs, `output` and `news` tell of it. What runs can survive its daemon: `wrapper` writes a `status_file`
beside the output, and the next daemon's `inheritance` reads it and finds what `adoption` takes over.
"""

from swarmd.gateways.local.gateway import LocalGateway
from swarmd.gateways.local.output import OutputPaths, output_paths

__all__ = ["LocalGateway", "OutputPaths", "output_paths"]
