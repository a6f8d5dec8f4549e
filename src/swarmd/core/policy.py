"""In which order ready tasks of the same priority go: the policies that a swarm can be created with."""

from enum import StrEnum


class SchedulingPolicy(StrEnum):
    """The priority that a task was given always comes first; the policy decides within it."""

    FIRST_COME_FIRST_SERVED = "first_come_first_served"
    """What has been ready for longest."""
    LONGEST_PATH_FIRST = "longest_path_first"
    """What has the most work behind it, its own included, along the longest way to the end of the graph."""
    FAIR_SHARE = "fair_share"
    """Arrays take turns: the one with the fewest active tasks, and of those the one whose last turn is longest ago."""
