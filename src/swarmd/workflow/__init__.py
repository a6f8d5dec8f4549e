"""Workflow files and recorded workflows: read, checked and expanded into what a swarm is loaded with.

`load_workflow` reads swarmd's own format, `read_wfformat` WfFormat 1.5; both give a WorkflowPlan or raise
WorkflowFileError. Nothing here talks to a daemon.
"""

from swarmd.workflow.expand import load_workflow
from swarmd.workflow.plan import WorkflowPlan
from swarmd.workflow.problems import WorkflowFileError
from swarmd.workflow.wfformat import read_wfformat

__all__ = ["WorkflowFileError", "WorkflowPlan", "load_workflow", "read_wfformat"]
