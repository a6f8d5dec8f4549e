"""The task resources of a workflow: names looked up, defaults filled in, equal ones shared.

Called by `expand.py`.
"""

from dataclasses import replace

from swarmd.core.model import TaskResources
from swarmd.workflow.model import ResourcesBlock, ResourcesChoice, WorkflowFile
from swarmd.workflow.problems import FieldPath, Problems, suggestion

_Key = tuple[object, ...]


class ResourceTable:
    """Gives every choice of resources an id, the same one to equal resources."""

    def __init__(self, workflow: WorkflowFile, problems: Problems) -> None:
        self._named = workflow.resources
        self._problems = problems
        self._ids: dict[_Key, int] = {}
        self.all: list[TaskResources] = []
        """By id, from 1."""
        defaults = workflow.defaults.resources
        path: FieldPath = ("defaults", "resources")
        self._defaults = ResourcesBlock.model_validate({})
        self._defaults = self._block(defaults, path) if defaults is not None else self._defaults

    def id_of(self, choice: ResourcesChoice | None, path: FieldPath) -> int:
        """The id of the resources that the choice comes to; an unknown name is noted."""
        block = self._defaults if choice is None else self._block(choice, path)
        return self.share(
            TaskResources(
                task_resources_id=0,
                cluster=block.cluster,
                queue=block.queue,
                cores=block.cores,
                memory_mib=block.memory,
                runtime_seconds=block.runtime,
                extra=block.extra,
                fallback_queues=tuple(block.fallback_queues),
            )
        )

    def barrier_id(self, task_resources_id: int) -> int:
        """The id of the least that a task can ask of the same queue."""
        like = self.all[task_resources_id - 1]
        return self.share(replace(like, cores=1, memory_mib=0, runtime_seconds=0.0, fallback_queues=()))

    def share(self, wanted: TaskResources) -> int:
        """The id of resources like these; theirs is not looked at."""
        key = resources_key(wanted)
        if key not in self._ids:
            self._ids[key] = len(self._ids) + 1
            self.all.append(replace(wanted, task_resources_id=self._ids[key]))
        return self._ids[key]

    def _block(self, choice: ResourcesChoice, path: FieldPath) -> ResourcesBlock:
        if isinstance(choice, ResourcesBlock):
            return self._over_defaults(choice)
        if choice not in self._named:
            known = ", ".join(self._named) or "none"
            hint = suggestion(choice, self._named)
            self._problems.add(path, f"there are no resources '{choice}'{hint}; known: {known}")
            return self._defaults
        return self._over_defaults(self._named[choice])

    def _over_defaults(self, block: ResourcesBlock) -> ResourcesBlock:
        given = {name: getattr(block, name) for name in block.model_fields_set}
        extra = {**self._defaults.extra, **block.extra}
        return self._defaults.model_copy(update={**given, "extra": extra})


def resources_key(resources: TaskResources) -> _Key:
    """What two resources have in common when they are equal, ids aside."""
    return (
        resources.cluster,
        resources.queue,
        resources.cores,
        resources.memory_mib,
        resources.runtime_seconds,
        tuple(sorted(resources.extra.items())),
        resources.fallback_queues,
    )
