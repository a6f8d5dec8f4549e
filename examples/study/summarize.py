"""Third stage: the draws of one location, as quantiles.

python summarize.py LOCATION
"""

import sys

import numpy as np
from epidemic import results_directory, save

QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)


def main(name: str) -> None:
    """Write summaries/LOCATION.npz: by quantile, the daily courses, and the few numbers that the table shows."""
    results = results_directory()
    files = sorted((results / "draws" / name).glob("[0-9]*.npz"), key=lambda file: int(file.stem))
    draws = [np.load(file) for file in files]
    infections = np.stack([draw["infections"] for draw in draws])
    beds = np.stack([draw["beds"] for draw in draws])
    save(
        results / "summaries" / f"{name}.npz",
        draws=len(draws),
        infections=np.quantile(infections, QUANTILES, axis=0),
        beds=np.quantile(beds, QUANTILES, axis=0),
        total=np.quantile(infections.sum(axis=1), QUANTILES),
        peak_day=np.quantile(infections.argmax(axis=1), QUANTILES),
        peak_beds=np.quantile(beds.max(axis=1), QUANTILES),
    )
    print(f"{name}: {len(draws)} draws summarized")


if __name__ == "__main__":
    main(sys.argv[1])
