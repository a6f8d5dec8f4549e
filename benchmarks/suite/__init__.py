"""The suite of `make bench`: what this daemon costs, beside what its peers and the physical limits cost in one run.

`python -m benchmarks.suite` runs it. `results.py` says what a row is, `setting.py` how large everything is,
`measurements.py` which measurements there are; the modules named after what they measure make the rows.
"""

import swarmd.grpc_environment as _before_grpc  # every module here may import grpc

__all__ = ["_before_grpc"]
