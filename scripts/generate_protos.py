"""Generate the Python code of protos/ into src/swarmd/_pb.

Called by `make protos`, and by the test that proves the committed code is not stale. Needs grpcio-tools and
mypy-protobuf (the `dev` extra); both are pinned there, so the same protos give the same bytes everywhere.
"""

import re
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = ROOT / "src" / "swarmd" / "_pb"
IMPORT = re.compile(r"^(from|import) swarm\b", re.MULTILINE)
HEADER = '"""Generated from protos/ by `make protos`. Do not edit."""\n'


def generate(out: Path) -> None:
    """Write the generated package into `out`, which is made anew."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(Path(scratch))
        for file in sorted(Path(scratch).rglob("*.py*")):
            if "_pb2_grpc" in file.name and "Stub" not in file.read_text():
                continue  # a file of messages only: its service module is empty
            target = out / file.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_rebased(file.read_text()))
    for folder in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text(HEADER)


def _protoc(scratch: Path) -> None:
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        f"--python_out={scratch}",
        f"--pyi_out={scratch}",
        f"--grpc_python_out={scratch}",
        f"--mypy_grpc_out=quiet:{scratch}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; its message is above")


def _rebased(code: str) -> str:
    """The same code with the generated modules imported from inside the package."""
    return IMPORT.sub(r"\1 swarmd._pb.swarm", code)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
