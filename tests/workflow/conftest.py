"""Fixtures that write workflow files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from swarmd.workflow import WorkflowFileError, WorkflowPlan, load_workflow

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str | bytes, name: str = "flow.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


@pytest.fixture
def load(write: Write) -> Callable[..., WorkflowPlan]:
    return lambda text, **options: load_workflow(write(text), **options)


@pytest.fixture
def refusal(write: Write) -> Callable[..., str]:
    """The message for a file that cannot be used, without the folder in it."""

    def message(text: str | bytes, name: str = "flow.yaml", **options: int) -> str:
        path = write(text, name)
        with pytest.raises(WorkflowFileError) as caught:
            load_workflow(path, **options)
        return caught.value.message.replace(f"{path.parent}/", "")

    return message
