"""A package that is replaced under a running daemon: launchers of another version finish what they run."""

import asyncio
from pathlib import Path

from swarmd.core.status import TaskStatus
from swarmd.gateways.local import connection
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.launcher import protocol
from tests.gateways.local.earlier_daemon import EarlierDaemon, next_daemon
from tests.gateways.local.test_launcher_alone import Alone
from tests.gateways.recording import SWARM, batch_of, eventually, guardians, is_alive, local_engine

OTHER_VERSION = 99
DOCTORED = f"""
import sys
sys.path.append({str(Path(PROGRAM[-1]).parent.parent)!r})
del sys.argv[1]
from launcher import protocol
protocol.VERSION = {OTHER_VERSION}
from launcher import guardian
guardian.main()
"""
OTHER_PROGRAM = (*PROGRAM[:3], "-c", DOCTORED, PROGRAM[-1])


class Elsewhere(Alone):
    """A launcher of another version, that writes where the tasks of an earlier daemon do."""

    def __init__(self, earlier: EarlierDaemon) -> None:
        self._earlier = earlier
        super().__init__(earlier.logs / SWARM / "7", OTHER_PROGRAM)

    def start(self, key: int, command: str, *, survives: bool = True) -> tuple[object, ...]:
        *order, _, _ = super().start(key, command, survives=survives)
        status = bytes(self._earlier.status(key))
        return *order, status.removesuffix(b".t0ken.status"), status


async def test_a_launcher_of_another_version_gets_no_task_and_none_is_lost(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(connection, "PROGRAM", OTHER_PROGRAM)
    async with local_engine(tmp_path) as engine:
        await engine.queue(f"echo ran >> {tmp_path}/ran", f"echo ran >> {tmp_path}/ran; exit 3")
        await eventually(lambda: "starts are put off" in caplog.text)
        assert f"its launcher speaks version {OTHER_VERSION} instead of {protocol.VERSION}" in caplog.text
        assert "restart the daemon" in caplog.text
        assert engine.record.news == []
        monkeypatch.undo()
        await engine.record.ended(1, 2)
        assert engine.record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")
    assert (tmp_path / "ran").read_text() == "ran\nran\n"


async def test_a_launcher_that_does_not_begin_with_its_version_gets_no_task(tmp_path, monkeypatch, caplog):
    talk = protocol.framed([(protocol.STARTED, 1, 1, 1), (protocol.ENDED, 1, 0)])
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-c", f"import os; os.write(0, {talk!r}); os.read(0, 1)"))
    async with local_engine(tmp_path) as engine:
        await engine.queue("exit 3")
        await eventually(lambda: "starts are put off" in caplog.text)
        assert engine.record.news == []
        monkeypatch.undo()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")


async def test_a_new_daemon_leaves_tasks_to_the_launcher_of_another_version_and_starts_its_own(tmp_path):
    earlier = EarlierDaemon(tmp_path)
    go = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; "
    with Elsewhere(earlier) as older:
        older.send(older.start(1, go + "exit 3"), older.start(2, "exit 5"))
        await asyncio.to_thread(older.heard, protocol.ENDED, 2)
        older.hang_up()
        async with next_daemon(tmp_path, cores=3) as engine:
            await engine.gateway.resume([batch_of("true", "true")])
            await engine.run("exit 7", first_id=3)
            assert older.process.pid in [process.pid for process in guardians()]
            assert len(guardians()) == 2
            assert engine.record.ended_ids() == {2, 3}
            assert is_alive(older.process.pid)
            (tmp_path / "go").touch()
            await engine.record.ended(1)
            ends = [engine.record.end_of(task_id) for task_id in (1, 2, 3)]
        assert ends == [(TaskStatus.ERROR_RECOVERABLE, f"exit code {code}") for code in (3, 5, 7)]
        await eventually(lambda: not is_alive(older.process.pid))
