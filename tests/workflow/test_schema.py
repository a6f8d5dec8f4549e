import copy
from pathlib import Path

import jsonschema
import pytest
import yaml

from swarmd.workflow.schema import SCHEMA_PATH, schema, schema_text

STUDY = Path(__file__).parents[2] / "examples" / "study" / "study.yaml"


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.fixture
def study():
    return copy.deepcopy(yaml.safe_load(STUDY.read_text(encoding="utf-8")))


def test_the_published_schema_is_the_models_own():
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), "run python -m swarmd.workflow.schema"


def test_it_says_what_it_is():
    assert schema()["$id"].startswith("urn:swarmd:")
    assert schema()["$schema"].endswith("2020-12/schema")
    assert schema()["title"] == "swarmd workflow"


def test_every_field_is_described():
    blocks = [schema(), *schema()["$defs"].values()]
    undescribed = [
        name for block in blocks for name, field in block["properties"].items() if "description" not in field
    ]
    assert undescribed == []


def test_the_example_study_is_valid(validator, study):
    validator.validate(study)


@pytest.mark.parametrize(
    "array",
    [
        {"command": "x", "count": 3, "after": ["prepare", {"array": "simulate", "by": ["location"]}]},
        {"command": "x", "tasks": ["a", {"place": "north", "year": 2020, "max_attempts": 2}]},
        {"command": "x", "parameters": {"a": [1, "b", True], "c": {"from": 1, "to": 3}}},
        {"command": "x", "resources": {"memory": "1.5G", "runtime": "1h30m", "cores": 2}},
        {"command": "x", "resources": {"memory": 500, "runtime": 1.5}},
        {"command": "x", "resources": {"queue": "short", "fallback_queues": ["long", "big"]}},
    ],
)
def test_what_the_reader_takes_is_valid(validator, study, array):
    study["arrays"]["other"] = array
    validator.validate(study)


@pytest.mark.parametrize(
    "array",
    [
        {"command": "x", "count": 0},
        {"command": "x", "count": 3, "tasks": ["a"]},
        {"command": "x", "comand": "y"},
        {"command": "x", "parameters": {"a-b": [1]}},
        {"command": "x", "resources": {"memory": "lots"}},
        {"command": "x", "resources": {"runtime": "soon"}},
        {"command": "x", "after": "prepare"},
    ],
)
def test_what_the_reader_refuses_is_not(validator, study, array):
    study["arrays"]["other"] = array
    assert not validator.is_valid(study)
