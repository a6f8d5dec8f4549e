"""Metrics as Prometheus reads them: the page of a daemon, and its numbers by name and labels."""

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.daemon import DaemonProcess, until

SECONDS = 30.0
Labels = frozenset[tuple[str, str]]


@dataclass
class Scrape:
    """One page."""

    text: str

    def __post_init__(self) -> None:
        self.families = {each.name: each for each in text_string_to_metric_families(self.text)}
        self.samples: dict[tuple[str, Labels], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"{key} comes twice"
                self.samples[key] = sample.value

    @property
    def names(self) -> set[str]:
        """Of all series there are."""
        return {name for name, _ in self.samples}

    def value(self, name: str, **labels: str) -> float:
        """One number; 0 for what is not there."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def by(self, name: str, label: str, **others: str) -> dict[str, float]:
        """The numbers of one name by one of its labels, where the others are as given."""
        return {
            dict(labels)[label]: value
            for (each, labels), value in self.samples.items()
            if each == name and others.items() <= dict(labels).items()
        }

    def mentions(self, label: str, value: str) -> bool:
        """Whether any series has this label with this value."""
        return any((label, value) in labels for _, labels in self.samples)


def port_of(daemon: DaemonProcess) -> int:
    """The port that a daemon with `--metrics HOST:0` picked, which it tells in its log."""
    for line in daemon.log.splitlines():
        told = json.loads(line)
        if told["event"] == "metrics":
            return int(told["url"].rpartition(":")[2].removesuffix("/metrics"))
    raise AssertionError(f"no line tells where metrics are: {daemon.log}")


def fetch(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, Mapping[str, str], str]:
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def scrape(port: int) -> Scrape:
    status, _, body = fetch(port)
    assert status == 200
    return Scrape(body)


def scraped_until(port: int, name: str, wanted: float, **labels: str) -> Scrape:
    """The first page on which a number is as wanted: pages are made twice a second at most."""
    found: list[Scrape] = []

    def is_there() -> bool:
        found[:] = [scrape(port)]
        return found[0].value(name, **labels) == wanted

    until(is_there, f"{name}{labels} to be {wanted}")
    return found[0]


def run_workflow(daemon: DaemonProcess, folder: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """`swarmd run` of a workflow, whatever comes of it."""
    file = folder / "flow.yaml"
    file.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "swarmd", "run", str(file)],
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
