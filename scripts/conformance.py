"""`make conformance`: the clients of all languages carry out clients/script.json against real daemons.

Each client runs twice, over a unix socket and over TCP with TLS and a token, against a daemon of its own that is killed
and started again when the script says so. A language whose toolchain is not on the machine is left out, and that is
said. The last line has the languages that passed, failed and were left out; the exit status is 1 when one failed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.daemon import launched, ready_line, short_home  # noqa: E402

CLIENTS = ROOT / "clients"
SCRIPT = CLIENTS / "script.json"
BUILD_SECONDS = 1800.0
RUN_SECONDS = 120.0
TRANSPORTS = ("unix", "tcp")


@dataclass(frozen=True)
class Tool:
    """A program that must be there."""

    name: str
    least: tuple[int, ...]
    """The oldest version that will do."""
    version: tuple[str, ...] = ("--version",)

    @property
    def lack(self) -> str:
        """What is wrong with it on this machine; empty when it will do."""
        if shutil.which(self.name) is None:
            return f"there is no {self.name} here"
        done = subprocess.run([self.name, *self.version], capture_output=True, text=True, timeout=60, check=False)
        found = re.search(r"(\d+(?:\.\d+)+)", done.stdout + done.stderr)
        numbers = tuple(int(part) for part in found[1].split(".")) if found else ()
        wanted = ".".join(map(str, self.least))
        return (
            "" if numbers >= self.least else f"{self.name} is {found[1] if found else 'broken'}, and {wanted} is needed"
        )


@dataclass(frozen=True)
class Language:
    """How a client is built and started; commands run in its folder."""

    name: str
    tools: tuple[Tool, ...]
    build: tuple[str, ...]
    run: tuple[str, ...]
    folder: str = ""

    @property
    def path(self) -> Path:
        """Where it lives."""
        return CLIENTS / (self.folder or self.name.lower())

    @property
    def lack(self) -> str:
        """Why it cannot be built here; empty when it can."""
        return next(filter(None, (tool.lack for tool in self.tools)), "")


LANGUAGES = (
    Language("Go", (Tool("go", (1, 26), ("version",)),), ("sh", "build.sh"), ("bin/conformance",)),
    Language(
        "Node.js",
        (Tool("node", (20,)), Tool("npm", (9,))),
        ("npm", "ci", "--no-audit", "--no-fund"),
        ("node", "conformance.js"),
        "node",
    ),
    Language(
        "Java",
        (Tool("javac", (17,)), Tool("mvn", (3, 8))),
        ("mvn", "--batch-mode", "--no-transfer-progress", "--quiet", "package"),
        ("java", "-jar", "target/conformance.jar"),
    ),
    Language(
        "Rust",
        (Tool("cargo", (1, 88)),),
        ("cargo", "build", "--release", "--quiet"),
        ("target/release/conformance",),
    ),
    Language("Python", (), ("sh", "build.sh"), (sys.executable, "conformance.py")),
)


class FailedError(Exception):
    """A client could not be built, or did not do what the script says."""


def main() -> int:
    """Build and run every client that can be; 1 when one of them failed, or none could be built."""
    wanted = {_language(name) for name in _arguments().languages}
    passed: list[str] = []
    failed: list[str] = []
    left_out: list[str] = []
    for language in LANGUAGES:
        if wanted and language not in wanted:
            continue
        lack = language.lack
        if lack:
            left_out.append(language.name)
            print(f"{language.name}: left out, for {lack}", flush=True)
            continue
        try:
            _check(language)
        except FailedError as error:
            failed.append(language.name)
            print(f"{language.name}: FAILED: {error}", flush=True)
        else:
            passed.append(language.name)
    told = [f"{what}: {', '.join(names) or 'none'}" for what, names in _outcomes(passed, failed, left_out)]
    print(f"conformance: {'; '.join(told)}")
    return 1 if failed or not passed else 0


def _language(name: str) -> Language:
    found = next((each for each in LANGUAGES if name in (each.name.lower(), each.path.name)), None)
    if found is None:
        sys.exit(
            f"conformance: {name!r} is no language here; there are {', '.join(each.path.name for each in LANGUAGES)}"
        )
    return found


def _outcomes(passed: list[str], failed: list[str], left_out: list[str]) -> list[tuple[str, list[str]]]:
    return [("passed", passed), ("failed", failed), ("left out", left_out)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("languages", nargs="*", type=str.lower, help="only these; default: all")
    return parser.parse_args()


def _check(language: Language) -> None:
    begun = time.monotonic()
    _build(language)
    print(f"{language.name}: built in {time.monotonic() - begun:.0f} s", flush=True)
    for transport in TRANSPORTS:
        begun = time.monotonic()
        with short_home() as home, _Daemon(home, transport) as daemon:
            steps = _run(language, daemon)
        print(f"{language.name}: {steps} steps over {transport} in {time.monotonic() - begun:.1f} s", flush=True)


def _build(language: Language) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    try:
        done = subprocess.run(
            language.build,
            cwd=language.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f"`{' '.join(language.build)}` took more than {BUILD_SECONDS:.0f} s") from None
    if done.returncode:
        raise FailedError(f"`{' '.join(language.build)}` exited with {done.returncode}\n{done.stdout}{done.stderr}")


def _expected(transport: str) -> tuple[list[str], int]:
    """What a client that does the whole script prints, and how often it asks for a restart."""
    steps = [step for step in json.loads(SCRIPT.read_text())["steps"] if step.get("only", transport) == transport]
    return [f"ok {step['name']}" for step in steps], sum(step["do"] == "restart" for step in steps)


def _run(language: Language, daemon: "_Daemon") -> int:
    """How many steps were ok; FailedError when one was not, or was not done."""
    steps: list[str] = []
    wanted, restarts = _expected(daemon.transport)
    with _client(language, daemon.environment) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for text in process.stdout:
            line = text.rstrip("\n")
            if line == "restart":
                restarts -= 1
                daemon.restart()
                process.stdin.write("restarted\n")
                process.stdin.flush()
            else:
                steps.append(line)
        code = process.wait()
    if steps != wanted or code or restarts:
        bad = [step for step in steps if step not in wanted]
        missing = [step for step in wanted if step not in steps and f"failed{step[2:]}" not in " ".join(bad)]
        told = "\n  ".join(["", *bad, *(f"not done: {step[3:]}" for step in missing)])
        unasked = f", {restarts} restarts not asked for" if restarts else ""
        raise FailedError(f"over {daemon.transport}, exit code {code}{unasked}:{told}")
    return len(steps)


@contextlib.contextmanager
def _client(language: Language, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The client with the script; killed when it takes too long."""
    with subprocess.Popen(
        [*language.run, str(SCRIPT)],
        cwd=language.path,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        timer = threading.Timer(RUN_SECONDS, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


class _Daemon:
    """A daemon at one address that can be killed and come back there."""

    def __init__(self, home: Path, transport: str) -> None:
        self.transport = transport
        self._home = home
        self._stack = contextlib.ExitStack()
        self._listen = f"unix:{home}/swarmd.sock" if transport == "unix" else "127.0.0.1:0"
        self._arguments: list[str] = []
        self.environment: dict[str, str] = {}
        if transport == "tcp":
            self._make_certificate()

    def _make_certificate(self) -> None:
        ca = trustme.CA()
        certificate = ca.issue_cert("127.0.0.1", "localhost")
        ca.cert_pem.write_to_path(self._home / "ca.pem")
        certificate.private_key_pem.write_to_path(self._home / "key.pem")
        (self._home / "key.pem").chmod(0o600)
        for place, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(self._home / "cert.pem", append=place > 0)
        self._arguments = ["--tls-cert", str(self._home / "cert.pem"), "--tls-key", str(self._home / "key.pem")]
        self.environment["SWARMD_TLS_CA"] = str(self._home / "ca.pem")

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restart(self) -> None:
        """Killed, and started again."""
        self._stack.close()
        self._start()

    def _start(self) -> None:
        process = self._stack.enter_context(
            launched("--ready-json", "--listen", self._listen, *self._arguments, home=self._home)
        )
        ready = ready_line(process, self._home)
        self._listen = self.environment["SWARMD_ADDRESS"] = ready["address"]
        if ready["token_file"]:
            self.environment["SWARMD_TOKEN_FILE"] = ready["token_file"]


if __name__ == "__main__":
    sys.exit(main())
