"""The examples of docs/python-client.md run as programs, and those in docstrings line by line, with a real daemon."""

import ast
import asyncio
import doctest
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarmd.client import Change, LiveSwarm, Swarm, SwarmClient, UpdateStream, blocking, building
from swarmd.client.encoding import update_message
from swarmd.client.ordering import Tasks
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from tests.daemon import DaemonProcess

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python-client.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAMES = {
    "np": np,
    "Change": Change,
    "Swarm": Swarm,
    "StateUpdate": StateUpdate,
    "TaskStatus": TaskStatus,
    "update_message": update_message,
}


def headings() -> list[str]:
    return re.findall(r"\n## ([^\n]*)\n(?:(?!\n## ).)*?```python", PAGE, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=headings())
def test_the_programs_of_the_page_run(code: str, daemon: DaemonProcess, tmp_path: Path):
    program = tmp_path / "example.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        env=daemon.environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for said in re.findall(r"print\(.*\)  # (.+)", code):
        assert said in done.stdout


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists()


def examples(owner: type) -> Iterator[tuple[str, str]]:
    """The examples in the docstrings of a class and its public methods: what stands at their end, set apart."""
    for name, member in inspect.getmembers(owner, inspect.isfunction):
        text = inspect.getdoc(member) or ""
        if not name.startswith("_") and (code := example_in(text)):
            yield f"{owner.__name__}.{name}", code


def example_in(text: str) -> str:
    """The paragraph at the end of a docstring that is code."""
    _, _, rest = text.partition("\n\n")
    paragraphs = [part for part in re.split(r"\n\n", rest) if part.strip()]
    last = textwrap.dedent(paragraphs[-1]) if paragraphs else ""
    try:
        tree = compile(last, "example", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return ""
    return last if isinstance(tree, ast.Module) and tree.body else ""


def public(owner: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(owner, inspect.isfunction) if not name.startswith("_")}


ASYNCIO_CLASSES = (SwarmClient, LiveSwarm, UpdateStream)
BLOCKING_CLASSES = (blocking.SwarmClient, blocking.LiveSwarm, blocking.UpdateStream)
ASYNCIO = [pytest.param(code, id=name) for owner in ASYNCIO_CLASSES for name, code in examples(owner)]
BLOCKING = [pytest.param(code, id=name) for owner in BLOCKING_CLASSES for name, code in examples(owner)]


def study() -> Swarm:
    plan = Swarm("study", gateway="pull")
    plan.array("simulate", command="simulate {name}", tasks=2000)
    return plan


def after_news(code: str) -> bool:
    """Whether the example waits for something that somebody must do."""
    return ".wait(" in code or ".watch(" in code


@pytest.mark.parametrize("code", ASYNCIO)
async def test_the_examples_of_the_asyncio_client_run(code: str, daemon: DaemonProcess):
    async with SwarmClient(daemon.address) as client:
        names: dict[str, Any] = {**NAMES, "client": client, "study": await client.submit(study())}
        try:
            async with client.updates("study") as updates:
                names["updates"] = updates
                if after_news(code):
                    done = names["study"].done(np.arange(1, 2001))
                    names["later"] = asyncio.get_running_loop().create_task(done)
                made = eval(compile(code, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
                if inspect.isawaitable(made):
                    await made
        finally:
            await clear(daemon)


@pytest.mark.parametrize("code", BLOCKING)
async def test_the_examples_of_the_blocking_client_run(code: str, daemon: DaemonProcess):
    def run() -> None:
        with blocking.SwarmClient(daemon.address) as client:
            names: dict[str, Any] = {**NAMES, "client": client, "study": client.submit(study())}
            with client.updates("study") as updates:
                names["updates"] = updates
                if after_news(code):
                    updates.done(np.arange(1, 2001))
                exec(code, names)

    try:
        await asyncio.to_thread(run)
    finally:
        await clear(daemon)


async def clear(daemon: DaemonProcess) -> None:
    async with SwarmClient(daemon.address) as client:
        for swarm in await client.swarms():
            await client.swarm(swarm.swarm_id).delete(force=True)


@pytest.mark.parametrize("owner", [*ASYNCIO_CLASSES, *BLOCKING_CLASSES])
def test_every_public_method_has_an_example(owner: type):
    assert public(owner) - {name.partition(".")[2] for name, _ in examples(owner)} == set()


def test_the_example_of_the_builders_module_says_what_it_says():
    assert doctest.testmod(building).attempted >= 4
    assert doctest.testmod(building).failed == 0


def test_the_examples_of_the_builder_run():
    plan = Swarm("study")
    names: dict[str, Any] = {**NAMES, "study": plan}
    names |= {name: plan.array(name, tasks=9) for name in ("prepare", "fetch", "plot", "simulate_more")}
    for code in (example_in(inspect.getdoc(Swarm.array) or ""), example_in(inspect.getdoc(Swarm.task) or "")):
        exec(code.replace("study.array(", "simulate = study.array("), names)
    plan.array("others", tasks=1000)
    exec(example_in(inspect.getdoc(Tasks.after) or "").replace("plot.after(simulate", "plot.after(fetch"), names)
    assert len(plan.arrays) == 7
