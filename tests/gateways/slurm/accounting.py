"""Accounts for a private cluster: slurmdbd over a MariaDB of its own, so that sacct has something to say."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.gateways.slurm.cluster import GONE_SECONDS, Cluster, free_ports, program_path, running_cluster

PROGRAMS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db")
START_SECONDS = 60.0

CONFIGURATION = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
AuthType=auth/none
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StorageLoc=accounts
CommitDelay=1
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""


def missing_programs() -> list[str]:
    """What has to be installed; empty when all is there."""
    return [name for name in PROGRAMS if shutil.which(name, path=program_path()) is None]


@contextlib.contextmanager
def keeping_accounts(folder: Path, **settings: str) -> Iterator[Cluster]:
    """A cluster whose jobs sacct remembers."""
    port, database_port = free_ports(2)
    with _process(*_database(folder, database_port)):
        _wait_for(database_port)
        conf = folder / "slurmdbd.conf"
        user = getpass.getuser()
        conf.write_text(CONFIGURATION.format(port=port, user=user, database_port=database_port, folder=folder))
        conf.chmod(0o600)
        with _process("slurmdbd", "-D", environment={"SLURM_CONF": str(folder / "slurm.conf")}):
            accounting = {
                "AccountingStorageType": "accounting_storage/slurmdbd",
                "AccountingStorageHost": "127.0.0.1",
                "AccountingStoragePort": str(port),
            }
            _make_cluster_known(folder, port)
            with running_cluster({**settings, **accounting}) as cluster:
                yield cluster


def _database(folder: Path, port: int) -> list[str]:
    """The command of a database that has one user and one schema."""
    data, first = folder / "data", folder / "first.sql"
    first.write_text(
        "CREATE DATABASE IF NOT EXISTS accounts;\n"
        "CREATE USER IF NOT EXISTS slurm@'127.0.0.1';\n"
        "GRANT ALL ON accounts.* TO slurm@'127.0.0.1';\n"
    )
    user = f"--user={getpass.getuser()}"
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", user, "--skip-test-db"]
    subprocess.run(install, env=_environment(), check=True, capture_output=True)
    places = [f"--datadir={data}", f"--socket={folder}/db.sock", f"--pid-file={folder}/db.pid"]
    network = ["--bind-address=127.0.0.1", f"--port={port}", "--skip-name-resolve"]
    return ["mariadbd", "--no-defaults", *places, *network, f"--init-file={first}", user]


def _make_cluster_known(folder: Path, port: int) -> None:
    """Tell slurmdbd of the cluster, as soon as it answers."""
    conf = folder / "slurm.conf"
    conf.write_text(
        "ClusterName=box\nSlurmctldHost=localhost(127.0.0.1)\nAuthType=auth/none\n"
        f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
        f"AccountingStoragePort={port}\n"
    )
    end = time.monotonic() + START_SECONDS
    while True:
        done = subprocess.run(
            ["sacctmgr", "-n", "-i", "add", "cluster", "box"],
            env={**_environment(), "SLURM_CONF": str(conf)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        log = folder / "slurmdbd.log"
        assert time.monotonic() < end, done.stderr + (log.read_text() if log.exists() else "")
        time.sleep(0.2)


def _wait_for(port: int) -> None:
    """slurmdbd tries only every five seconds."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except OSError:
            assert time.monotonic() < end, "the database did not start"
            time.sleep(0.05)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": program_path()}


@contextlib.contextmanager
def _process(*command: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env={**_environment(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GONE_SECONDS)
        process.kill()
        process.wait()
