"""Second stage: one possible epidemic in one location.

    python simulate.py LOCATION DRAW

The task that STUDY_FAILS_ONCE names fails on its first attempt, to show what a retry looks like.
"""

import os
import sys

import numpy as np
from epidemic import LOCATIONS, Draw, results_directory, save, simulate


def fail_once_on_purpose() -> None:
    """End with an error if this is the first attempt of the chosen task."""
    chosen = os.environ.get("STUDY_FAILS_ONCE")
    if chosen and chosen == os.environ.get("SWARM_TASK_NAME") and os.environ.get("SWARM_ATTEMPT") == "1":
        sys.exit(f"{chosen} fails on its first attempt, on purpose; the second will do")


def main(name: str, draw_number: int) -> None:
    """Write draws/LOCATION/DRAW.npz."""
    fail_once_on_purpose()
    results = results_directory()
    with np.load(results / "inputs" / f"{name}.npz") as inputs:
        people, contacts = inputs["people"], inputs["contacts"]
        restriction_day = int(inputs["restriction_day"])
    # a draw is one truth about the disease, the same in every location; chance differs
    draw = Draw.sample(np.random.default_rng(draw_number))
    seed = draw_number * 1000 + list(LOCATIONS).index(name)
    infections, beds = simulate(people, contacts, restriction_day, draw, seed)
    save(results / "draws" / name / f"{draw_number}.npz", infections=infections, beds=beds)
    print(f"{name} {draw_number}: {infections.sum():,} infected, at most {beds.max():,.0f} beds")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
