"""First stage: the input of one location's simulations.

python prepare.py LOCATION
"""

import shutil
import sys

import numpy as np
from epidemic import AGE_SHARES, LOCATIONS, contact_matrix, results_directory, save


def main(name: str) -> None:
    """Write inputs/LOCATION.npz, and clear what an earlier study left of this location."""
    location = LOCATIONS[name]
    results = results_directory()
    shutil.rmtree(results / "draws" / name, ignore_errors=True)
    (results / "summaries" / f"{name}.npz").unlink(missing_ok=True)
    people = np.rint(location.population * AGE_SHARES).astype(np.int64)
    save(
        results / "inputs" / f"{name}.npz",
        people=people,
        contacts=contact_matrix(location.mixing),
        restriction_day=location.restriction_day,
    )
    print(f"{location.title}: {people.sum():,} people in {len(people)} age groups")


if __name__ == "__main__":
    main(sys.argv[1])
