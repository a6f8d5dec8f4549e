"""What became of attempts that are over at Slurm, or that it does not know any more: Slurm's word and the status file.

Blocks while it reads files, so it is called in a thread. An exit code 0 in the status file is the truth whatever Slurm
says. An attempt whose file is not there never started, and after this it never will: the file is made here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from swarmd.core.status import TaskStatus
from swarmd.gateways.local.reasons import exit_text, with_tail
from swarmd.gateways.slurm.attempts import Element, Ending
from swarmd.gateways.slurm.history import Pasts
from swarmd.gateways.slurm.script import NO_DIRECTORY, NO_FILES, NOTHING_RUN, TAKEN, UNWRITABLE
from swarmd.gateways.slurm.states import FINAL, Stage, stage_of
from swarmd.gateways.slurm.status_file import Status, read_status

NOTHING_RAN = {
    NO_FILES: "the files of its batch could not be read on its node: `directory` in [gateways.slurm] must be on a file "
    "system that the compute nodes share",
    NO_DIRECTORY: "its working directory could not be entered on its node",
    UNWRITABLE: "its output could not be written on its node",
    TAKEN: "it was not started: it had been given up",
}


@dataclass(frozen=True, slots=True)
class Case:
    """An attempt, and what Slurm said of it last."""

    element: Element
    stage: Stage | None
    """None: Slurm does not know it any more."""
    words: str = ""
    """Slurm's state, and its reason where there is one."""
    exit_code: int | None = None
    """Below zero: the number of the signal."""
    node: str = ""
    """Where Slurm ran it, or meant to."""
    has_bad_node: bool = False
    """That node takes no jobs any more."""
    knows_array: bool = False
    """Slurm knows its array: an element of which it knows nothing then was cancelled before it started."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be said of an attempt."""

    status: TaskStatus
    reason: str = ""
    follow: str = ""
    """It may still be run, by this element: wait for its status file before that is said."""
    is_unseen: bool = False
    """The file system that has its status file is not there: nothing is said before it is."""


def settle_all(cases: Sequence[Case]) -> list[Outcome]:
    """What became of each."""
    return [settle(case) for case in cases]


def settle(case: Case) -> Outcome:
    """What became of an attempt."""
    element = case.element
    try:
        status = element.claimed()
    except OSError as error:
        why = f"its status file {element.status_file} can be neither read nor made: {error.strerror or error}"
        outcome = _failed(element, f"{why}; {_slurm_says(case)}")
        if case.stage is None:
            return replace(outcome, follow=element.name)
        return replace(outcome, is_unseen=isinstance(error, FileNotFoundError))
    if status.exit_code == 0:
        return Outcome(TaskStatus.DONE)
    if element.ending is not None:
        return Outcome(*element.ending.said, follow=_other_run(case, status, element.ending))
    return _decided(case, status)


def _other_run(case: Case, status: Status, ending: Ending) -> str:
    """The element that may be running the command though Slurm has ended this one; empty when none is."""
    was_killed = ending.has_killed or (case.stage is Stage.CANCELLED and bool(case.exit_code))
    return "" if was_killed or status.never or status.exit_code is not None else _runner(case, status)


def _runner(case: Case, status: Status) -> str:
    """The element that made the status file. Nodes may show what they wrote late: while it is unknown, its own."""
    return status.element or case.element.name


def _decided(case: Case, status: Status) -> Outcome:
    element = case.element
    match case.stage:
        case None:
            return _absent(case, status)
        case Stage.DONE if case.exit_code == 0:
            return Outcome(TaskStatus.DONE)
        case Stage.OUT_OF_RESOURCES:
            return Outcome(TaskStatus.ADJUSTING_RESOURCES, _what_ran_out(case))
        case Stage.CANCELLED if status.never and case.has_bad_node:
            # Nobody ended what ran there: its node could not start it, and was drained for that (prolog).
            return Outcome(TaskStatus.REGISTERED, f"Slurm could not start its job {element.name} on {case.node}")
        case Stage.CANCELLED:
            return _failed(element, f"Slurm's job {element.name} was cancelled by somebody else")
        case Stage.LOST:
            return Outcome(TaskStatus.REGISTERED, f"Slurm ended its job {element.name}: {case.words}")
        case _:
            return _of_failure(case, status)


def _of_failure(case: Case, status: Status) -> Outcome:
    element = case.element
    if status.exit_code is not None:
        return _failed(element, exit_text(status.exit_code))
    if status.never:
        return _not_run(case)
    if case.exit_code == TAKEN or (case.exit_code in NOTHING_RUN and status.element):
        # Slurm, or somebody before, has started the attempt a second time: the first one counts.
        return Outcome(TaskStatus.ERROR_RECOVERABLE, _vanished(element), follow=_runner(case, status))
    if case.exit_code in NOTHING_RUN:
        return _not_run(case)
    return _failed(element, exit_text(case.exit_code) if case.exit_code else _slurm_says(case))


def _not_run(case: Case) -> Outcome:
    element = case.element
    if case.exit_code in NOTHING_RUN:
        where = f" ({case.element.batch.directory})" if case.exit_code == NO_DIRECTORY else ""
        return Outcome(TaskStatus.ERROR_RECOVERABLE, NOTHING_RAN[case.exit_code] + where)
    if "launch" in case.words.lower():
        return Outcome(TaskStatus.REGISTERED, f"Slurm could not start its job {element.name}: {case.words}")
    return Outcome(TaskStatus.ERROR_RECOVERABLE, f"it was not started; {_slurm_says(case)}")


def _absent(case: Case, status: Status) -> Outcome:
    """Absent is not failed: it may have left the queue long ago, or have been lost with a controller that crashed."""
    element = case.element
    if status.exit_code is not None:
        return _failed(element, exit_text(status.exit_code))
    if not status.never:
        return Outcome(TaskStatus.ERROR_RECOVERABLE, _vanished(element), follow=_runner(case, status))
    if case.knows_array:
        return Outcome(TaskStatus.ERROR_RECOVERABLE, f"Slurm's job {element.name} was cancelled before it started")
    return Outcome(TaskStatus.REGISTERED, f"Slurm does not know its job {element.name} any more, which never started")


def _vanished(element: Element) -> str:
    return f"it vanished: Slurm does not know its job {element.name} any more, and it left no exit status"


def _what_ran_out(case: Case) -> str:
    resources, seconds = case.element.batch.resources, case.element.batch.runtime_seconds
    if case.words.startswith("TIMEOUT"):
        asked = f"its runtime of {seconds:g} s" if seconds else "the time limit of its partition"
        return f"ran longer than {asked} (Slurm: {case.words})"
    asked = f"its {resources.memory_mib} MiB" if resources.memory_mib else "it has by default"
    return f"needed more memory than {asked} (Slurm: {case.words})"


def _slurm_says(case: Case) -> str:
    code = "" if not case.exit_code else f"{exit_text(case.exit_code)}; "
    return f"{code}Slurm says {case.words}"


def _failed(element: Element, text: str) -> Outcome:
    return Outcome(TaskStatus.ERROR_RECOVERABLE, with_tail(text, element.output.err))


def with_pasts(cases: Sequence[Case], jobs: Mapping[int, str], pasts: Pasts) -> list[Case]:
    """The cases, those of these jobs, given with their batches, with what Slurm's records say."""
    return [
        with_past(case, pasts) if jobs.get(case.element.job_id) == case.element.batch.batch_id else case
        for case in cases
    ]


def with_past(case: Case, pasts: Pasts) -> Case:
    """The case of an element that has left the queue, with what Slurm's records say of its end.

    Records that know no end of it say nothing: they may be behind, and accounts have jobs that a controller lost in a
    crash as running for ever.
    """
    past = pasts.get(case.element.name)
    stage = None if past is None else stage_of(past.state)
    if past is None or stage not in FINAL:
        return replace(case, knows_array=case.knows_array or f"{case.element.job_id}_" in pasts)
    return Case(case.element, stage, past.state, past.exit_code, knows_array=case.knows_array)


def last_words_of_all(elements: Sequence[Element]) -> list[Outcome | None]:
    """What became of attempts by their status files alone; None for one that has not ended, or said nothing."""
    return [_last_words(element) for element in elements]


def last_words_and_unseen(elements: Sequence[Element]) -> tuple[list[Outcome | None], set[Path]]:
    """The same, and the shared folders that were not there before or after: of what is in them nothing is known."""
    shared = {element.batch.swarm.shared for element in elements}
    before = {folder for folder in shared if not folder.is_dir()}
    words = last_words_of_all(elements)
    return words, before | {folder for folder in shared if not folder.is_dir()}


def _last_words(element: Element) -> Outcome | None:
    try:
        status = read_status(element.status_file)
    except OSError:
        return None
    if status is None or status.exit_code is None:
        return None
    if status.exit_code == 0:
        return Outcome(TaskStatus.DONE)
    return _failed(element, exit_text(status.exit_code))


def ending_of(element: Element) -> Ending:
    """What is said of an attempt whose other run was followed to no end."""
    return element.ending or Ending(TaskStatus.ERROR_RECOVERABLE, _vanished(element))
