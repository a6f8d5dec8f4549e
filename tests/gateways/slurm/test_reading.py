"""What Slurm's programs and files say, read. No Slurm is needed."""

from pathlib import Path

import pytest

from swarmd.core.model import QueueLimits, TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.slurm.attempts import Element, Ending, SlurmBatch, SlurmSwarm
from swarmd.gateways.slurm.concluding import Conclusions
from swarmd.gateways.slurm.history import Past, from_completions, read_accounts
from swarmd.gateways.slurm.listing import list_arguments, read_listing
from swarmd.gateways.slurm.options import SlurmOptions, SwarmChoices
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.settling import Case, Outcome, settle, with_past
from swarmd.gateways.slurm.site import Site, read_facts, read_limits, seconds_of
from swarmd.gateways.slurm.states import STAGES, Stage, is_held_after_failed_launch, stage_of
from swarmd.gateways.slurm.status_file import Status, claimed, read_status

D, E, A, G = (
    TaskStatus.DONE,
    TaskStatus.ERROR_RECOVERABLE,
    TaskStatus.ADJUSTING_RESOURCES,
    TaskStatus.REGISTERED,
)

# -- squeue ------------------------------------------------------------------------------------------------------------


def test_a_listing_tells_what_is_new():
    first = read_listing("1_0|RUNNING|0|None|b-1|b-1 0 2|0|\n1_1|PENDING|0|Resources|b-1|b-1 0 2|0|\n", {})
    assert list(first.changed) == ["1_0", "1_1"]
    text = "1_0|COMPLETED|0|None|b-1|b-1 0 2|0|\n1_1|PENDING|0|Resources|b-1|b-1 0 2|0|\n"
    second = read_listing(text, first.lines)
    assert list(second.changed) == ["1_0"]
    row = second.row("1_0")
    assert row is not None
    assert (row.job_id, row.index, row.state, row.name, row.comment, row.restarts) == (
        1,
        0,
        "COMPLETED",
        "b-1",
        "b-1 0 2",
        0,
    )


@pytest.mark.parametrize("line", ["5_[0-3]|PENDING|0|None|n|c|0|", "5|RUNNING|0|None|n|c|0|", "", "garbage", "5_1|"])
def test_lines_that_are_not_about_one_element_are_no_rows(line: str):
    listing = read_listing(line + "\n", {})
    assert [listing.row(key) for key in listing.lines] == [None]


def test_squeue_is_given_names_while_they_are_few():
    assert "--name" in list_arguments("ada", ["b-1", "b-2"])
    assert "b-1,b-2" in list_arguments("ada", ["b-1", "b-2"])
    assert "--name" not in list_arguments("ada", [f"batch-{number}" for number in range(20_000)])
    assert "--name" not in list_arguments("ada", [])


def test_every_state_is_known_with_what_follows_its_name():
    for state, stage in STAGES.items():
        assert stage_of(state) is stage
    assert stage_of("CANCELLED by 1000") is Stage.CANCELLED
    assert stage_of("CANCELLED+") is Stage.CANCELLED
    assert stage_of("NEVER_HEARD_OF") is None


def test_holds_of_people_are_no_failed_launches():
    assert is_held_after_failed_launch("launch failed requeued held", 0)
    assert is_held_after_failed_launch("launch_failed_requeued_held", 1)
    assert is_held_after_failed_launch("JobHeldAdmin", 1)
    assert is_held_after_failed_launch("JobHoldMaxRequeue", 5)
    assert not is_held_after_failed_launch("JobHeldAdmin", 0)
    assert not is_held_after_failed_launch("JobHeldUser", 1)


# -- sacct and jobcomp -------------------------------------------------------------------------------------------------


def test_sacct_is_believed_only_about_the_batch_that_is_meant():
    text = (
        "7_0|mine|FAILED|2:0\n7_1|mine|CANCELLED by 0|0:15\n8_0|others|COMPLETED|0:0\n7_[2-3]|mine|PENDING|0:0\nbad\n"
    )
    assert read_accounts(text, {7: "mine", 8: "mine"}) == {"7_0": Past("FAILED", 2), "7_1": Past("CANCELLED", -15)}
    text = "7_[2-5%2]|mine|CANCELLED by 0|0:0\n8|mine|CANCELLED by 0|0:0\n9|others|CANCELLED by 0|0:0\n"
    assert read_accounts(text, {7: "mine", 8: "mine", 9: "mine"}).keys() == {"7_", "8_"}


def test_the_last_line_of_jobcomp_counts(tmp_path: Path):
    path = tmp_path / "jobcomp"
    lines = [
        "JobId=9 Name=mine JobState=PENDING ArrayJobId=7 ArrayTaskId=0 ExitCode=0:0",
        "JobId=9 Name=mine JobState=TIMEOUT ArrayJobId=7 ArrayTaskId=0 ExitCode=0:0",
        "JobId=8 Name=others JobState=FAILED ArrayJobId=7 ArrayTaskId=1 ExitCode=0:0",
        "JobId=7 Name=mine JobState=CANCELLED ExitCode=0:0",
    ]
    path.write_text("\n".join(lines) + "\n")
    assert from_completions(path, {7: "mine"}) == {
        "7_0": Past("TIMEOUT", 0),
        "7_": Past("CANCELLED", 0),
    }
    assert from_completions(tmp_path / "nowhere", {7: "mine"}) == {}


# -- the site ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("UNLIMITED", None), ("infinite", None), ("", None), ("7-00:00:00", 604_800.0), ("01:30:00", 5400.0)),
        *(("30:00", 1800.0), ("30", 1800.0), ("1-12", 129_600.0), ("2-01:00", 176_400.0)),
    ],
)
def test_time_limits(text: str, seconds: float | None):
    assert seconds_of(text) == seconds


def test_what_partitions_hold():
    partitions = (
        "PartitionName=main Default=YES MaxTime=1-00:00:00 MaxCPUsPerNode=UNLIMITED MaxMemPerNode=UNLIMITED\n"
        "PartitionName=small Default=NO MaxTime=UNLIMITED MaxCPUsPerNode=4 MaxMemPerNode=1000\n"
    )
    nodes = "main|8|16000\nmain|64|8000+\nsmall|64|64000\n"
    limits = {(each.cluster, each.queue): each for each in read_limits(partitions, nodes, "box")}
    assert limits["", ""] == QueueLimits("", "", 64, 16_000, 86_400.0)
    assert limits["box", "main"] == QueueLimits("box", "main", 64, 16_000, 86_400.0)
    assert limits["", "small"] == QueueLimits("", "small", 4, 1000, None)
    assert len(limits) == 6


def test_what_a_partition_can_never_hold_is_named():
    site = Site(Programs())
    site.limits = [QueueLimits("", "main", 8, 1000, 3600.0)]
    assert site.objection(TaskResources(1, cores=8, memory_mib=1000, runtime_seconds=3600), "main") == ""
    assert "9 cores" in site.objection(TaskResources(1, cores=9), "main")
    assert "2000 MiB" in site.objection(TaskResources(1, queue="main", memory_mib=2000), "other")
    assert "61 minutes" in site.objection(TaskResources(1, runtime_seconds=3601), "main")
    assert site.objection(TaskResources(1, cores=9), "unknown") == ""


def test_what_a_site_says_of_itself():
    text = "ClusterName    = box\nMaxArraySize   = 101\nAccountingStorageType   = accounting_storage/none\n"
    facts = read_facts(text)
    assert (facts.cluster, facts.array_size, facts.keeps_accounts) == ("box", 101, False)
    assert read_facts("AccountingStorageType = accounting_storage/slurmdbd").keeps_accounts
    assert read_facts("").array_size == 1001


def test_arrays_grow_again_after_they_were_refused():
    site = Site(Programs())
    assert site.largest_array == 1001
    site.refused(500)
    assert site.largest_array == 250
    site.took(250)
    assert site.largest_array == 500
    for _ in range(3):
        site.took(site.largest_array)
    assert site.largest_array == 1001


# -- status files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("12_3 15 node-7\n0\n", Status("12_3", "node-7", 0)),
        ("12_3 15 node-7\n137\n", Status("12_3", "node-7", 137)),
        ("12_3 15 node-7\n13", Status("12_3", "node-7")),
        ("12_3 15 node-7\n", Status("12_3", "node-7")),
        ("12_3 15 no", Status()),
        ("", Status()),
        ("never\n", Status(never=True)),
        ("nonsense\n", Status()),
    ],
)
def test_status_files(tmp_path: Path, text: str, status: Status):
    path = tmp_path / "status"
    path.write_text(text)
    assert read_status(path) == status
    assert claimed(path, path.parent) == status


def test_a_status_file_that_is_not_there_is_made_once(tmp_path: Path):
    path = tmp_path / "deep" / "status"
    assert read_status(path) is None
    assert claimed(path, tmp_path) == Status(never=True)
    assert path.read_text() == "never\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_status_file_is_made_where_its_file_system_is_missing(tmp_path: Path):
    shared = tmp_path / "unmounted"
    with pytest.raises(FileNotFoundError):
        claimed(shared / "logs" / "status", shared)
    assert not shared.exists()


def test_a_status_file_that_is_something_else_is_not_followed(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels"):
        read_status(tmp_path / "link")
    (tmp_path / "folder").mkdir()
    assert read_status(tmp_path / "folder") == Status()


# -- what became of an attempt -----------------------------------------------------------------------------------------


@pytest.fixture
def element(tmp_path: Path) -> Element:
    swarm = SlurmSwarm(SwarmInfo("swarm", token="t"), SwarmChoices(), "t", tmp_path)
    batch = SlurmBatch(swarm, "b-1", 7, TaskResources(1, memory_mib=10), 60.0)
    element = Element(batch, 0, 1, 1, job_id=12, index=3)
    element.status_file.parent.mkdir(parents=True)
    return element


STARTED = "12_3 15 n1\n"


@pytest.mark.parametrize(
    ("file", "stage", "code", "status"),
    [
        *((f"{STARTED}0\n", stage, None, D) for stage in (*Stage, None)),
        (STARTED, Stage.LOST, 0, G),
        (None, Stage.LOST, 0, G),
        (f"{STARTED}143\n", Stage.LOST, -15, G),
        (STARTED, Stage.OUT_OF_RESOURCES, -15, A),
        (f"{STARTED}143\n", Stage.OUT_OF_RESOURCES, -15, A),
        (STARTED, Stage.CANCELLED, -15, E),
        (None, Stage.CANCELLED, 0, E),
        (f"{STARTED}3\n", Stage.FAILED, 3, E),
        (STARTED, Stage.FAILED, -9, E),
        (None, Stage.FAILED, 119, E),
        (STARTED, Stage.DONE, 0, D),
        (f"{STARTED}3\n", None, None, E),
        (None, None, None, G),
    ],
)
def test_what_became_of_an_attempt(
    element: Element, file: str | None, stage: Stage | None, code: int | None, status: TaskStatus
):
    if file is not None:
        element.status_file.write_text(file)
    outcome = settle(Case(element, stage, "words", code))
    assert outcome.status is status
    assert not outcome.follow
    assert element.status_file.exists()


def test_what_runs_somewhere_is_waited_for(element: Element):
    element.status_file.write_text("9_9 15 n1\n")
    assert settle(Case(element, Stage.FAILED, "FAILED", 125)).follow == "9_9"
    assert settle(Case(element, None)).follow == "9_9"


def test_what_slurm_has_forgotten_is_waited_for_and_what_it_has_killed_is_not(element: Element):
    element.status_file.write_text(STARTED)
    element.ending = Ending(G, "requeued", has_killed=False)
    assert settle(Case(element, Stage.CANCELLED, "CANCELLED", 0)) == Outcome(G, "requeued", follow="12_3")
    assert settle(Case(element, Stage.CANCELLED, "CANCELLED", -15)) == Outcome(G, "requeued")
    element.ending = Ending(G, "requeued")
    assert settle(Case(element, Stage.CANCELLED, "CANCELLED", 0)) == Outcome(G, "requeued")


def test_a_status_file_whose_first_line_is_not_seen_yet_is_waited_for(element: Element):
    """A node may keep what it wrote to itself for half a minute, while the file is open."""
    element.status_file.write_text("")
    assert settle(Case(element, Stage.FAILED, "FAILED", 125)).follow == "12_3"
    unwritable = settle(Case(element, Stage.FAILED, "FAILED", 124))
    assert unwritable == Outcome(E, "its output could not be written on its node")
    element.ending = Ending(G, "requeued", has_killed=False)
    assert settle(Case(element, Stage.CANCELLED, "CANCELLED", 0)).follow == "12_3"


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "REQUEUED", "something new"])
def test_records_that_do_not_speak_of_an_end_say_nothing(element: Element, state: str):
    """Accounts say for ever that what was lost with a controller runs, and can be behind."""
    case = Case(element, None, "nothing of it")
    pasts = {"12_3": Past(state, 0)}
    assert with_past(case, pasts) == case
    element.status_file.write_text(STARTED)
    assert settle(with_past(case, pasts)).follow == "12_3"
    assert with_past(case, {"12_3": Past("COMPLETED", 0)}).stage is Stage.DONE


async def test_records_of_a_job_are_not_those_of_another_that_had_its_number(element: Element, tmp_path: Path):
    other = Element(SlurmBatch(element.batch.swarm, "b-2", 7, TaskResources(1), 0.0), 0, 2, 1, job_id=12, index=3)
    records = tmp_path / "jobcomp"
    records.write_text("JobId=15 Name=b-2 JobState=COMPLETED ArrayJobId=12 ArrayTaskId=3 ExitCode=0:0\n")
    programs = Programs()
    conclusions = Conclusions(programs, Site(programs), SlurmOptions(jobcomp_file=records))
    for cases in ([Case(element, None), Case(other, None)], [Case(other, None), Case(element, None)]):
        stages = {case.element: case.stage for case in await conclusions._with_pasts(cases)}
        assert stages[element] is None
    programs.close()


def test_what_left_the_queue_is_waited_for_while_its_status_file_cannot_be_reached(element: Element):
    element.status_file.symlink_to("/nowhere/at/all")
    assert settle(Case(element, None)).follow == "12_3"


def test_a_status_file_that_cannot_be_made_is_said(element: Element):
    element.status_file.symlink_to("/nowhere/at/all")
    outcome = settle(Case(element, Stage.FAILED, "FAILED", 3))
    assert outcome.status is E
    assert "can be neither read nor made" in outcome.reason
