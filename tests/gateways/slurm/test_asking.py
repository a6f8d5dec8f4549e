"""What is asked of sbatch, what may not be asked, and what its refusals mean. No Slurm is needed."""

import pytest

from swarmd.core.errors import InvalidInputError
from swarmd.core.model import MAX_RUNTIME_SECONDS, TaskResources
from swarmd.gateways.catalogue import GatewayContext
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.slurm import made
from swarmd.gateways.slurm.attempts import ranges
from swarmd.gateways.slurm.options import SlurmOptions, SwarmChoices
from swarmd.gateways.slurm.programs import Answer, Programs
from swarmd.gateways.slurm.refusals import Failure, failure_of
from swarmd.gateways.slurm.requests import (
    FORBIDDEN,
    OWN_FIELDS,
    ForbiddenOptionError,
    checked_argument,
    checked_option,
    resource_options,
)


def asked(**resources) -> list[str]:
    return list(resource_options(TaskResources(1, **resources), resources.pop("partition", "")))


def test_resources_become_options():
    resources = TaskResources(1, queue="long", cores=4, memory_mib=2000, runtime_seconds=90.5, extra={"nice": "5"})
    options = list(resource_options(resources, "other"))
    assert options == ["--partition=long", "--cpus-per-task=4", "--mem=2000M", "--time=2", "--nice=5"]


def test_what_is_not_asked_for_is_left_to_slurm():
    assert asked() == ["--cpus-per-task=1"]
    assert list(resource_options(TaskResources(1), "main")) == ["--partition=main", "--cpus-per-task=1"]


@pytest.mark.parametrize(("seconds", "minutes"), [(0.1, 1), (60, 1), (60.1, 2), (3600, 60)])
def test_runtimes_are_rounded_up_to_minutes(seconds: float, minutes: int):
    assert f"--time={minutes}" in asked(runtime_seconds=seconds)


@pytest.mark.parametrize("seconds", [68 * 366 * 86_400, 60 * 71_582_789, MAX_RUNTIME_SECONDS])
def test_very_long_runtimes_stay_what_slurm_can_count(seconds: float):
    """Slurm counts seconds in 31 bits: of 71582789 minutes it makes one."""
    assert "--time=5256000" in asked(runtime_seconds=seconds)


@pytest.mark.parametrize("name", [*FORBIDDEN, *OWN_FIELDS])
def test_options_that_would_break_the_contract_are_refused_by_name(name: str):
    for given in (name, f"--{name}", name[:3]):
        with pytest.raises(ForbiddenOptionError, match=given):
            checked_option(given, "1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("J", "x"), ("-J", "x"), ("-a", "0-3"), ("", "x"), ("nice=3 --wrap", ""), ("Nice", "3"), ("a b", "")),
        *(("nice", "1\n2"), ("nice", "\0"), ("constraint", ""), ("account", "")),
        *(("mail-user", ""), ("begin", ""), ("nodes", "")),
    ],
)
def test_what_is_no_long_option_with_its_value_is_refused(name: str, value: str):
    with pytest.raises(ForbiddenOptionError):
        checked_option(name, value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("gres", "help", "would tell what there is, and submit nothing"),
        ("hint", "help", "would tell what there is, and submit nothing"),
        ("mem-bind", "help", "would tell what there is, and submit nothing"),
        ("mem-b", "help", "would tell what there is, and submit nothing"),
        ("signal", "B:USR1@60", "would end the script around the command"),
        ("signal", "RB:USR1", "would end the script around the command"),
        ("sig", "b:10", "would end the script around the command"),
    ],
)
def test_values_that_would_break_the_contract_are_refused(name: str, value: str, words: str):
    with pytest.raises(ForbiddenOptionError, match=words):
        checked_option(name, value)


@pytest.mark.parametrize("name", ["mem-per-cpu", "--mem-per-cpu", "mem-per-gpu", "mem-per-g"])
def test_memory_is_asked_for_in_one_way(name: str):
    with pytest.raises(ForbiddenOptionError, match=f"{name} cannot be given beside memory_mib 10; leave one out"):
        asked(memory_mib=10, extra={name: "5"})
    assert asked(extra={name: "5"})[-1] == f"--{name.removeprefix('--')}=5"


def test_others_are_passed_on():
    assert checked_option("constraint", "fast&big") == "--constraint=fast&big"
    assert checked_option("exclusive", "") == "--exclusive"
    assert checked_option("--mem-per-gpu", "4G") == "--mem-per-gpu=4G"
    assert checked_option("signal", "USR1@60") == "--signal=USR1@60"
    assert checked_option("signal", "R:USR1") == "--signal=R:USR1"
    assert checked_argument("--gres=gpu:a100=2") == "--gres=gpu:a100=2"
    with pytest.raises(ForbiddenOptionError, match="no long option"):
        checked_argument("-p long")


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("Batch job submission failed: Socket timed out on send/recv operation", Failure.UNKNOWN),
        ("Batch job submission failed: Zero Bytes were transmitted or received", Failure.UNKNOWN),
        ("Batch job submission failed: Unexpected message received", Failure.UNKNOWN),
        ("Batch job submission failed: Invalid job array specification", Failure.TOO_LARGE_ARRAY),
        (
            "QOSMaxSubmitJobPerUserLimit\nBatch job submission failed: Job violates accounting/QOS policy",
            Failure.TOO_MANY,
        ),
        ("Slurm temporarily unable to accept job, sleeping and retrying", Failure.TOO_MANY),
        ("AssocMaxSubmitJobLimit", Failure.TOO_MANY),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", Failure.NOT_NOW),
        ("Batch job submission failed: Invalid authentication credential", Failure.NOT_NOW),
        ("Batch job submission failed: Requested partition configuration not available now", Failure.NOT_NOW),
        ("Batch job submission failed: Invalid partition name specified", Failure.NEVER),
        ("Batch job submission failed: Requested node configuration is not available", Failure.NEVER),
        ("Memory specification can not be satisfied", Failure.NEVER),
        ("Batch job submission failed: Invalid account or account/partition combination specified", Failure.NEVER),
        ("sbatch: unrecognized option '--foo=3'", Failure.NEVER),
        ("Invalid --time specification", Failure.NEVER),
        ("--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.", Failure.NEVER),
        ("ClusterName needs to be specified\nfatal: Unable to process configuration file", Failure.NOT_NOW),
        ("Batch job submission failed: Protocol authentication error", Failure.UNKNOWN),
        ("Batch job submission failed: Unspecified error", Failure.NOT_NOW),
        ("something that nobody has seen before", Failure.UNKNOWN),
    ],
)
def test_what_sbatch_says_when_it_fails(words: str, failure: Failure):
    assert failure_of(Answer(1, err=f"sbatch: error: {words}\n")) is failure


def test_an_sbatch_that_was_killed_may_have_submitted():
    assert failure_of(Answer(None)) is Failure.UNKNOWN
    assert failure_of(Answer(-9, err="sbatch: error: Invalid partition name specified")) is Failure.UNKNOWN


@pytest.mark.parametrize("what", ["folder", "file"])
async def test_an_sbatch_that_cannot_be_started_refuses_nothing_for_good(tmp_path, monkeypatch, what: str):
    """Its file system may be away for a minute; the system's words for that are like Slurm's for wrong requests."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/nowhere/at/all\n")
    sbatch.chmod(0o700)
    if what == "folder":
        monkeypatch.setattr(Programs, "_found", lambda *_: str(tmp_path))  # "Permission denied"
    programs = Programs(tmp_path)
    answer = await programs.submit([], "")
    programs.close()
    assert failure_of(answer) is Failure.NOT_NOW


def test_numbers_are_written_as_slurm_writes_them():
    assert ranges([3, 1, 2, 7, 9, 10]) == "1-3,7,9-10"
    assert ranges([0]) == "0"
    assert ranges([]) == ""


def test_options_of_a_swarm_win_over_the_config_file():
    options = SlurmOptions(partition="main", account="physics")
    assert SwarmChoices.of({"partition": "long"}, options) == SwarmChoices("long", "physics", "")


@pytest.mark.parametrize(
    "given", [{"partitoin": "x"}, {"partition": ""}, {"qos": "a\nb"}, {"sbatch_options": "--nice"}]
)
def test_wrong_options_of_a_swarm_are_refused(given: dict[str, str]):
    with pytest.raises(InvalidInputError) as caught:
        SwarmChoices.of(given, SlurmOptions())
    assert caught.value.field == "swarm.gateway_options"


async def test_variables_that_no_shell_could_set_are_refused(tmp_path):
    gateway = made(GatewayContext("slurm", {}, "", tmp_path, tmp_path / "logs"))
    with pytest.raises(InvalidInputError, match="'a b' cannot be a variable"):
        await gateway.add_swarm(SwarmInfo("swarm", environment={"a b": "c"}))
    await gateway.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"directory": "shared"}, "directory: give an absolute path"),
        ({"poll_min": 0}, "poll_min: "),
        ({"poll_min": 5, "poll_max": 1}, "poll_max is 1, below poll_min 5"),
        ({"sbatch_options": ["--array=1-3"]}, "sbatch_options: --array cannot be given: a batch is an array already"),
        ({"sbatch_options": ["--output=x"]}, "sbatch_options: --output cannot be given"),
        ({"partition": "a\nb"}, "partition: give one line"),
        ({"requeue": True}, "requeue is no option of this gateway"),
        ({"bin_dir": "/usr/bin"}, "bin_dir is no option of this gateway; did you mean 'bin_directory'?"),
    ],
)
def test_wrong_options_of_the_config_file_are_named(tmp_path, options, words: str):
    with pytest.raises(InvalidInputError) as caught:
        made(GatewayContext("slurm", options, "config.toml", tmp_path, tmp_path / "logs"))
    assert words in caught.value.message
    assert caught.value.message.startswith("config.toml: [gateways.slurm]")


def test_files_go_where_the_config_file_says(tmp_path):
    usual = made(GatewayContext("slurm", {}, "", tmp_path, tmp_path / "logs"))
    assert usual.output_directory("s") == tmp_path / "logs" / "s"
    shared = made(GatewayContext("slurm", {"directory": "/shared"}, "", tmp_path, tmp_path / "logs"))
    assert str(shared.output_directory("s")) == "/shared/logs/s"
