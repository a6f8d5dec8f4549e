import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.workflow import WorkflowFileError
from swarmd.workflow.json_nodes import compose_json
from swarmd.workflow.source import Source, _Converter, read_source

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def refusal(path: Path) -> str:
    with pytest.raises(WorkflowFileError) as caught:
        read_source(path)
    return caught.value.message.replace(f"{path.parent}/", "")


def test_scalars_that_only_look_like_something_else_stay_text(write):
    source = read_source(write("[no, on, 1:30, 2024-01-31, 007, 1_000, 0x1f]"))
    assert source.data == ["no", "on", "1:30", "2024-01-31", "007", "1_000", "0x1f"]


def test_numbers_truth_values_and_null_are_what_they_are(write):
    source = read_source(write("[7, -3, 0.5, 1e3, true, False, null, ~]"))
    assert source.data == [7, -3, 0.5, 1000.0, True, False, None, None]


def test_lines_are_found_by_path(write):
    source = read_source(write("a: 1\nb:\n  - x\n  - y:\n      2\n"))
    assert source.line(("a",)) == 1
    assert source.line(("b", 1)) == 4
    assert source.line(("b", 1, "y")) == 4
    assert source.line(("b", 7)) == 2
    assert source.line(("nowhere",)) is None


def test_lines_are_found_in_json_too(write):
    source = read_source(write('{"a": 1,\n\t"b": [{"c": "\\ud83d\\ude00"},\n\t\t2]}', "flow.json"))
    assert source.data == {"a": 1, "b": [{"c": "\U0001f600"}, 2]}
    assert source.line(("b",)) == 2
    assert source.line(("b", 1)) == 3


@given(json_values)
def test_json_reads_as_pythons_own_parser_reads_it(value):
    text = json.dumps(value, indent=1)
    assert _Converter("flow.json").value(compose_json(text, "flow.json"), ()) == json.loads(text)


def test_merged_mappings_keep_what_is_written_out(write):
    source = read_source(write("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n"))
    assert source.data == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}
    assert isinstance(source, Source)
    assert source.line(("y", "a")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "flow.yaml:3: a: appears twice, here and in line 1; keep one"),
        ("a:\n\tb: 1", "flow.yaml:2: is indented with a tab; YAML wants spaces"),
        ("", "flow.yaml: is empty; a workflow needs at least 'name' and 'arrays'"),
        ("a: &a [*a]", "flow.yaml:1: a[0]: is an alias of something that it is part of"),
        ("[" * 200_000, "flow.yaml:1: is not YAML: nested too deeply"),
        ("- " * 50_000, "flow.yaml:1: is not YAML: nested too deeply"),
        ("a: !!int x", "flow.yaml:1: a: 'x' is no int"),
        ("? [1]\n: 2", "flow.yaml:1: has a key that is no text"),
        ("a: 1\n<<: 3", "flow.yaml:2: << takes a mapping, or a list of mappings"),
        (b"\xff\xfea", "flow.yaml: is not a text in UTF-8 (byte 0); save it as UTF-8"),
        (b"a\0b", "flow.yaml: is a binary file, not a text"),
        ("a: !!python/object/apply:os.system [x]", "flow.yaml:1: a: the tag tag:yaml.org,2002:python/object/apply"),
        ("a: 'x\n", "flow.yaml:2: is not YAML: while scanning a quoted scalar, found unexpected end of stream"),
        ("a: 1\n---\nb: 2", "flow.yaml:2: is not YAML: expected a single document"),
        ("a: \x01", "flow.yaml: is not YAML: unacceptable character"),
    ],
)
def test_a_broken_yaml_file_is_refused_with_its_line(write, text, message):
    assert refusal(write(text)).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n}', "flow.json:2: is not JSON: expecting property name enclosed in double quotes (column 1)"),
        ('{"a": 1,\n"a": 2}', "flow.json:2: a: appears twice, here and in line 1; keep one"),
        ("[" * 100_000, "flow.json: is nested too deeply"),
        ("[" * 80 + "]" * 80, "flow.json:1: is nested too deeply"),
        ("\n", "flow.json: is empty"),
        ('["\\ud800"]', r"flow.json: holds one half of a surrogate pair, such as \ud83d without \ude00"),
    ],
)
def test_a_broken_json_file_is_refused_with_its_line(write, text, message):
    assert refusal(write(text, "flow.json")) == message


def test_what_is_no_file_is_refused(tmp_path):
    assert refusal(tmp_path / "absent.yaml") == "absent.yaml: there is no such file"
    assert refusal(tmp_path).endswith("is a directory; name a file in it")
    assert "cannot be read" in refusal(tmp_path / ("x" * 5000))


def test_aliases_of_aliases_cannot_fill_the_memory(write, monkeypatch):
    monkeypatch.setattr("swarmd.workflow.source.MAX_VALUES", 1000)
    levels = "\n".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]" for level in range(1, 9))
    assert "holds more than 1000 values" in refusal(write(f"l0: &l0 [1]\n{levels}"))
