"""The fuzzers themselves, for a fixed number of inputs: what `make fuzz` does for hours."""

import random
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from tests.fuzz import corpus
from tests.fuzz.campaign import Campaign
from tests.fuzz.corpus import FOLDER, METHODS, read_corpus, request_class
from tests.fuzz.finding import FindingError
from tests.fuzz.mutator import Mutator
from tests.fuzz.validator import Validator

VALIDATED, CALLED = 1500, 500


def test_what_the_validator_is_given_changes_nothing_or_fits():
    campaign = Campaign(seed=1)
    campaign.validate(count=VALIDATED)
    assert not campaign.findings
    assert campaign.executions["validator"] == VALIDATED
    assert len(campaign.outcomes) > 30


@pytest.mark.e2e
def test_a_daemon_that_is_fuzzed_serves_on_and_reads_what_it_wrote():
    campaign = Campaign(seed=1)
    campaign.attack(count=CALLED)
    assert not campaign.findings
    assert campaign.executions["daemon"] == CALLED
    assert len(campaign.outcomes) > 30


def test_there_is_a_valid_message_of_every_method():
    found = read_corpus()
    assert set(found) == set(METHODS)
    for method, messages in found.items():
        assert any(_is_valid(method, data) for data in messages)


def _is_valid(method: str, data: bytes) -> bool:
    try:
        return request_class(method).FromString(data).IsInitialized()
    except DecodeError:
        return False


def test_the_corpus_is_what_its_module_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    corpus.main()
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {name: (FOLDER / name).read_bytes() for name in made}


def test_the_same_seed_makes_the_same_inputs():
    def made(seed: int) -> list[bytes]:
        mutator, messages = Mutator(random.Random(seed)), read_corpus()
        return [mutator.data(request_class(name), messages[name]) for name in METHODS for _ in range(20)]

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_a_fault_would_be_found(monkeypatch: pytest.MonkeyPatch):
    def apply(*_: object) -> None:
        raise KeyError("made up")

    validator = Validator()
    monkeypatch.setattr(validator._swarm, "apply", apply)
    update = (FOLDER / "ApplyUpdate-queued.bin").read_bytes()
    with pytest.raises(FindingError, match="made up"):
        validator.try_message("ApplyUpdate", update)
