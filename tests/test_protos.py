"""The contract: generated code that is not stale, protos that are shipped, and a comment on everything."""

import importlib.util
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
GENERATED = ROOT / "src" / "swarmd" / "_pb"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script behind `make protos`."""
    spec = importlib.util.spec_from_file_location("generate_protos", ROOT / "scripts" / "generate_protos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files_below(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def test_the_generated_code_is_that_of_the_protos(generate: ModuleType, tmp_path: Path):
    generate.generate(tmp_path / "out")
    fresh, committed = files_below(tmp_path / "out"), files_below(GENERATED)

    assert sorted(committed) == sorted(fresh)
    stale = [name for name, text in fresh.items() if committed[name] != text]
    assert stale == [], "run `make protos` and commit what it writes"


def test_the_protos_are_part_of_the_package():
    shipped = resources.files("swarmd") / "protos"
    for path in PROTOS.rglob("*.proto"):
        name = path.relative_to(PROTOS)
        assert shipped.joinpath(*name.parts).read_text() == path.read_text(), name
    assert len(list(PROTOS.rglob("*.proto"))) >= 8


# -- comments ----------------------------------------------------------------------------------------------------------

MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, NESTED, NESTED_ENUMS, VALUES, METHODS, ONEOFS = 2, 3, 4, 2, 2, 8
Path_ = tuple[int, ...]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    """Our files as protoc sees them, with their comments."""
    out = tmp_path_factory.mktemp("protos") / "set"
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    include = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"--proto_path={PROTOS}", f"--proto_path={include}", "--include_source_info"]
    assert protoc.main([*arguments, f"--descriptor_set_out={out}", *files]) == 0
    return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def things(file: FileDescriptorProto) -> Iterator[tuple[Path_, str]]:
    """Everything that a reader of the contract may ask about: where it is, and what it is called."""
    for place, message in enumerate(file.message_type):
        yield from _of_message((MESSAGES, place), message, message.name)
    for place, enum in enumerate(file.enum_type):
        yield from _of_enum((ENUMS, place), enum, enum.name)
    for place, service in enumerate(file.service):
        yield (SERVICES, place), service.name
        for number, method in enumerate(service.method):
            yield (SERVICES, place, METHODS, number), f"{service.name}.{method.name}"


def _of_message(where: Path_, message: DescriptorProto, name: str) -> Iterator[tuple[Path_, str]]:
    yield where, name
    for place, field in enumerate(message.field):
        yield (*where, FIELDS, place), f"{name}.{field.name}"
    for place, inner in enumerate(message.nested_type):
        if not inner.options.map_entry:
            yield from _of_message((*where, NESTED, place), inner, f"{name}.{inner.name}")
    for place, enum in enumerate(message.enum_type):
        yield from _of_enum((*where, NESTED_ENUMS, place), enum, f"{name}.{enum.name}")
    for place, oneof in enumerate(message.oneof_decl):
        if not oneof.name.startswith("_"):  # those that protoc makes of `optional`
            yield (*where, ONEOFS, place), f"{name}.{oneof.name}"


def _of_enum(where: Path_, enum: EnumDescriptorProto, name: str) -> Iterator[tuple[Path_, str]]:
    yield where, name
    for place, value in enumerate(enum.value):
        yield (*where, VALUES, place), f"{name}.{value.name}"


def test_everything_in_the_contract_has_a_comment(described: Sequence[FileDescriptorProto]):
    silent, seen = [], 0
    for file in described:
        comments = {tuple(each.path): each.leading_comments.strip() for each in file.source_code_info.location}
        for where, name in things(file):
            seen += 1
            if not comments.get(where):
                silent.append(f"{file.name}: {name}")
    assert silent == []
    assert seen > 250


def test_every_64_bit_integer_is_an_id_or_a_counter_that_says_so(described: Sequence[FileDescriptorProto]):
    """JSON prints them as strings, so they are for ids; revision and sequence are ids of changes and messages."""
    wide = {3, 4, 6, 16, 18}  # int64, uint64, fixed64, sfixed64, sint64
    odd = [
        name
        for file in described
        for message in file.message_type
        for name, kind in ((f"{message.name}.{field.name}", field.type) for field in message.field)
        if kind in wide and not name.endswith(("_id", "_ids", "revision", "sequence"))
    ]
    assert odd == []
