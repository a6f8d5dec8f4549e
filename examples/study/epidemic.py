"""The epidemic that the study simulates: a stochastic SEIR model with three age groups, day by day.

Shared by the scripts of the study. Holds the places, the model and where results are kept; knows nothing of tasks.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAYS = 240
STEPS_PER_DAY = 8
AGE_SHARES = np.array([0.22, 0.60, 0.18])
HOSPITAL_RISK = np.array([0.002, 0.012, 0.09])
HOSPITAL_DAYS = 9.0
FIRST_INFECTED = 25
RESTRICTION_DAYS = 70


@dataclass(frozen=True)
class Location:
    """A place: how many people live there, how much they mix, and on which day contacts were restricted."""

    title: str
    population: int
    mixing: float
    restriction_day: int


LOCATIONS = {
    "harbor": Location("Harbor", 820_000, 1.10, 52),
    "highland": Location("Highland", 190_000, 0.84, 64),
    "delta": Location("Delta", 1_450_000, 1.02, 50),
    "plains": Location("Plains", 540_000, 0.92, 82),
    "islands": Location("Islands", 95_000, 0.98, 44),
    "capital": Location("Capital", 3_100_000, 1.18, 46),
}


@dataclass(frozen=True)
class Draw:
    """One possible truth about the disease."""

    reproduction_number: float
    latent_days: float
    infectious_days: float
    restriction_effect: float
    """By how much the restriction lowers contacts."""

    @classmethod
    def sample(cls, generator: np.random.Generator) -> "Draw":
        return cls(
            reproduction_number=generator.normal(2.05, 0.09),
            latent_days=generator.gamma(90, 1 / 30),
            infectious_days=generator.gamma(135, 1 / 30),
            restriction_effect=generator.beta(40, 38),
        )


def results_directory() -> Path:
    """Where the study keeps everything: STUDY_RESULTS, or `results` in the working directory."""
    return Path(os.environ.get("STUDY_RESULTS", "results"))


def contact_matrix(mixing: float) -> Floats:
    """How much age groups meet, by row, scaled so that `mixing` 1 gives the draw's reproduction number."""
    contacts = np.array([[1.9, 0.9, 0.3], [0.9, 1.3, 0.5], [0.3, 0.5, 0.8]])
    weighted: Floats = contacts * AGE_SHARES
    largest_eigenvalue = float(np.abs(np.linalg.eigvals(weighted)).max())
    return np.multiply(weighted, mixing / largest_eigenvalue)


def simulate(people: Ints, contacts: Floats, restriction_day: int, draw: Draw, seed: int) -> tuple[Ints, Floats]:
    """New infections and occupied hospital beds by day.

    `people` holds the inhabitants by age group, `contacts` the matrix between the groups.
    """
    generator = np.random.default_rng(seed)
    susceptible, exposed, infectious = people.copy(), np.zeros(3, np.int64), np.zeros(3, np.int64)
    infectious[1] = FIRST_INFECTED
    susceptible[1] -= FIRST_INFECTED
    step = 1 / STEPS_PER_DAY
    becomes_infectious = 1 - np.exp(-step / draw.latent_days)
    recovers = 1 - np.exp(-step / draw.infectious_days)
    infections, admissions = np.zeros((DAYS, 3), np.int64), np.zeros((DAYS, 3), np.int64)
    for day in range(DAYS):
        restricted = restriction_day <= day < restriction_day + RESTRICTION_DAYS
        effect = draw.restriction_effect if restricted else 0.0
        rate = draw.reproduction_number * (1 - effect) / draw.infectious_days
        for _ in range(STEPS_PER_DAY):
            force = rate * contacts @ (infectious / people)
            infected = generator.binomial(susceptible, 1 - np.exp(-step * force))
            sick = generator.binomial(exposed, becomes_infectious)
            recovered = generator.binomial(infectious, recovers)
            susceptible -= infected
            exposed += infected - sick
            infectious += sick - recovered
            infections[day] += infected
            admissions[day] += generator.binomial(sick, HOSPITAL_RISK)
    return infections.sum(axis=1), occupied_beds(admissions.sum(axis=1))


def occupied_beds(admissions: Ints) -> Floats:
    """Beds by day when stays are exponential, of HOSPITAL_DAYS on average."""
    staying = np.exp(-np.arange(DAYS) / HOSPITAL_DAYS)
    return np.convolve(admissions, staying)[:DAYS]


def save(path: Path, **arrays: npt.ArrayLike) -> None:
    """Write a .npz whole or not at all: a task that is stopped midway leaves nothing half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(partial, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
    partial.replace(path)
