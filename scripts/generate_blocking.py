"""Write src/swarmd/client/blocking/client.py: the blocking client, method by method from the asyncio one.

    python scripts/generate_blocking.py

Signatures, types and docstrings are taken over; each body hands the call to the event loop of the portal. A test
compares the file with what comes out here.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "src" / "swarmd" / "client"
TARGET = CLIENT / "blocking" / "client.py"
SOURCES = {"updating": "UpdateStream", "live": "LiveSwarm", "client": "SwarmClient"}
"""The module of each class, in the order in which they need each other."""
WRAPPED = frozenset(SOURCES.values())

HEADER = '''"""The blocking client: generated from the asyncio one by scripts/generate_blocking.py; change it there.

Each method does in the portal's event loop what its namesake does, and waits for it.
"""
'''
WORDS = (
    (r"\ban async context manager", "a context manager"),
    (r"\basync (with|for)\b", r"\1"),
    (r"\(await ([\w.]+\([^()]*\))\)", r"\1"),
    (r"\bawait ", ""),
    (r"as an asyncio program sees it", "as a program without asyncio sees it"),
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def generated() -> str:
    """The text of the module, not formatted."""
    trees = {module: ast.parse((CLIENT / f"{module}.py").read_text()) for module in SOURCES}
    classes = [_class(trees[module], name) for module, name in SOURCES.items()]
    body = "\n\n\n".join(ast.unparse(ast.fix_missing_locations(each)) for each in classes)
    return "\n\n".join([HEADER, *_imports(trees, body), body]) + "\n"


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    methods = [method for node in found.body if isinstance(node, Function) for method in _method(node, name)]
    return ast.ClassDef(name=name, bases=[], keywords=[], decorator_list=[], body=[_docstring(found), *methods])


def _method(node: Function, owner: str) -> Iterator[ast.stmt]:
    """What a method becomes; nothing for what is private."""
    if node.name == "__init__":
        yield from _constructor(node, owner)
    elif node.name == "__aenter__":
        yield from _parsed("def __enter__(self) -> Self:\n    return self")
    elif node.name == "__aexit__":
        yield _exit(node)
    elif node.name == "__repr__":
        yield from _parsed("def __repr__(self) -> str:\n    return repr(self._asyncio)")
    elif not node.name.startswith("_"):
        yield _public(node)


def _constructor(node: Function, owner: str) -> Iterator[ast.stmt]:
    if owner != "SwarmClient":
        yield from _parsed(
            f"def __init__(self, portal: Portal, wrapped: asyncio_{owner}) -> None:\n"
            "    self._portal = portal\n"
            "    self._asyncio = wrapped"
        )
        if owner == "LiveSwarm":
            yield from _parsed(
                "@property\ndef swarm_id(self) -> str:\n"
                "    'Its name; empty: the only swarm there is.'\n    return self._asyncio.swarm_id"
            )
        return
    call = ast.unparse(_call_of(node, "asyncio_SwarmClient"))
    body = (
        "def __init__(self) -> None:\n    self._portal = shared_portal()\n\n"
        f"    async def connected() -> asyncio_SwarmClient:\n        return {call}\n\n"
        "    self._asyncio = self._portal.call(connected())"
    )
    made = next(_parsed(body))
    assert isinstance(made, ast.FunctionDef)
    made.args = node.args
    made.body.insert(0, _docstring(node))
    yield made


def _exit(node: Function) -> ast.stmt:
    call = "self._portal.call(self._asyncio.__aexit__(kind, error, traceback))"
    made = next(_parsed(f"def __exit__(self) -> None:\n    {call}"))
    assert isinstance(made, ast.FunctionDef)
    made.args = node.args
    return made


def _public(node: Function) -> ast.stmt:
    inner: ast.expr = _call_of(node, f"self._asyncio.{node.name}")
    is_property = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
    if is_property:
        inner = _expression(f"self._asyncio.{node.name}")
    returns = node.returns
    assert returns is not None
    if isinstance(node, ast.AsyncFunctionDef) and ast.unparse(returns).startswith("AsyncIterator["):
        inner = _expression(f"self._portal.iterate({ast.unparse(inner)})")
        returns = _expression(ast.unparse(returns).removeprefix("Async"))
    elif isinstance(node, ast.AsyncFunctionDef):
        inner = _expression(f"self._portal.call({ast.unparse(inner)})")
    if ast.unparse(returns) in WRAPPED:
        inner = _expression(f"{ast.unparse(returns)}(self._portal, {ast.unparse(inner)})")
    last: ast.stmt = ast.Expr(inner) if ast.unparse(returns) == "None" else ast.Return(inner)
    return ast.FunctionDef(
        name=node.name,
        args=node.args,
        body=[_docstring(node), last],
        decorator_list=node.decorator_list,
        returns=returns,
    )


def _call_of(node: Function, callee: str) -> ast.Call:
    """A call that hands on all arguments of a function."""
    positional = [ast.Name(each.arg) for each in node.args.args[1:]]
    keywords = [ast.keyword(each.arg, ast.Name(each.arg)) for each in node.args.kwonlyargs]
    return ast.Call(_expression(callee), [*positional], keywords)


def _docstring(node: Function | ast.ClassDef) -> ast.stmt:
    text = ast.get_docstring(node, clean=True) or ""
    for pattern, new in WORDS:
        text = re.sub(pattern, new, text)
    indent = "    " if isinstance(node, ast.ClassDef) else "        "
    lines = text.splitlines()
    shown = "\n".join([lines[0], *(f"{indent}{line}" if line else "" for line in lines[1:])])
    return ast.Expr(ast.Constant(f"{shown}\n{indent}" if len(lines) > 1 else shown))


def _imports(trees: dict[str, ast.Module], body: str) -> Iterator[str]:
    """What the signatures need, from where the asyncio client has it; what it defines itself, from there."""
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    used |= set(re.findall(r"[A-Za-z_]+", " ".join(re.findall(r"'[^'\n]*'", body))))  # quoted annotations
    lines = {"from swarmd.client.blocking.portal import Portal, shared_portal"}
    lines |= {f"from swarmd.client.{module} import {name} as asyncio_{name}" for module, name in SOURCES.items()}
    if "Iterator" in used:
        lines.add("from collections.abc import Iterator")
    known = set(WRAPPED) | {"Iterator"}
    for module, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                names = [alias.name for alias in node.names if (alias.asname or alias.name) in used - known]
                lines |= {f"from {node.module} import {name}" for name in names}
            elif isinstance(node, ast.Import):
                lines |= {f"import {alias.name}" for alias in node.names if alias.name in used}
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in used:
                lines.add(f"from swarmd.client.{module} import {node.targets[0].id}")
    yield "\n".join(sorted(lines))


def _parsed(source: str) -> Iterator[ast.stmt]:
    yield from ast.parse(source).body


def _expression(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def main() -> None:
    """Write the file."""
    TARGET.write_text(generated())
    ruff = Path(sys.executable).with_name("ruff")
    for arguments in (["check", "--fix", "--quiet", "--select", "I"], ["format", "--quiet"]):
        subprocess.run([ruff, *arguments, TARGET], check=True)


if __name__ == "__main__":
    main()
