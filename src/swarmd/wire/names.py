"""The enums of the protocol and the statuses of the core, by their common names."""

from typing import cast

from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd.core.explain import ObstacleKind
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.status import Outcome, RunStatus, TaskStatus
from swarmd.core.transitions import Effect

TASK_STATUS_TO_PB: dict[TaskStatus, task_pb2.TaskStatus] = {
    status: cast("task_pb2.TaskStatus", task_pb2.TaskStatus.Value(f"TASK_STATUS_{status.name}"))
    for status in TaskStatus
}
TASK_STATUS_FROM_PB: dict[int, TaskStatus] = {number: status for status, number in TASK_STATUS_TO_PB.items()}

RUN_STATUS_TO_PB: dict[RunStatus, state_pb2.WorkflowRunStatus] = {
    status: cast("state_pb2.WorkflowRunStatus", state_pb2.WorkflowRunStatus.Value(f"WORKFLOW_RUN_STATUS_{status.name}"))
    for status in RunStatus
}
RUN_STATUS_FROM_PB: dict[int, RunStatus] = {number: status for status, number in RUN_STATUS_TO_PB.items()}

POLICY_TO_PB: dict[SchedulingPolicy, swarm_pb2.SchedulingPolicy] = {
    policy: cast("swarm_pb2.SchedulingPolicy", swarm_pb2.SchedulingPolicy.Value(f"SCHEDULING_POLICY_{policy.name}"))
    for policy in SchedulingPolicy
}
POLICY_FROM_PB: dict[int, SchedulingPolicy] = {number: policy for policy, number in POLICY_TO_PB.items()}

OUTCOME_TO_PB: dict[Outcome, swarm_pb2.SwarmOutcome] = {
    outcome: cast("swarm_pb2.SwarmOutcome", swarm_pb2.SwarmOutcome.Value(f"SWARM_OUTCOME_{outcome.name}"))
    for outcome in Outcome
}

OBSTACLE_TO_PB: dict[ObstacleKind, swarm_service_pb2.Obstacle.Kind] = {
    kind: cast("swarm_service_pb2.Obstacle.Kind", swarm_service_pb2.Obstacle.Kind.Value(f"KIND_{kind.name}"))
    for kind in ObstacleKind
}

IGNORED_TO_PB: dict[Effect, state_pb2.IgnoredNews.Reason] = {
    Effect.STALE_FINAL: state_pb2.IgnoredNews.REASON_TASK_IS_FINAL,
    Effect.STALE_FURTHER: state_pb2.IgnoredNews.REASON_TASK_IS_FURTHER,
    Effect.STALE_ATTEMPT: state_pb2.IgnoredNews.REASON_ATTEMPT_IS_OVER,
    Effect.STALE_NOT_QUEUED: state_pb2.IgnoredNews.REASON_TASK_IS_NOT_QUEUED,
}
