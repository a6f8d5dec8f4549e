"""An engine for swarmd's "remote" gateway, to copy from: it runs tasks as processes of its machine.

    python engine.py --listen unix:/run/user/1000/engine.sock --state ~/.local/state/engine --cores 4

It shows all that an engine has to do so that nothing is lost and nothing runs twice, also when it is killed in the
middle: docs/remote-engines.md says what that is. `engine_store` remembers, `engine_runs` looks after processes; here is
the service, and the loop that starts tasks and sees them end. Needs grpcio, and stubs made by `build.sh`.
"""

import argparse
import asyncio
import fcntl
import hmac
import json
import os
import signal
import socket
import sqlite3
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # children are started while there are connections
sys.path.insert(0, str(Path(__file__).parent / "generated"))

import grpc
import grpc.aio
from engine_runs import LOST, NEVER_RAN, RUNS, Fate, Run, boot
from engine_store import Attempt, End, Store
from swarm.v1 import gateway_service_pb2 as pb
from swarm.v1 import gateway_service_pb2_grpc, task_pb2

LOOK_SECONDS = 0.05
"""How often it is looked what has ended."""
KILL_AFTER_SECONDS = 5.0
"""Between TERM and KILL."""
STOP_SECONDS = 2.0
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 8 << 20)]


class Engine(gateway_service_pb2_grpc.GatewayServiceServicer):
    """The service, and what it does."""

    def __init__(self, state: Path, cores: int) -> None:
        self._store = Store(state / "engine.db")
        self._root = state / "runs"
        self._cores = cores
        self._runs: dict[int, Run] = {}
        """The processes of running attempts, by their place."""
        self._ending_since: dict[int, float] = {}
        self._work = asyncio.Event()
        self._told = asyncio.Event()

    # -- the four calls ----------------------------------------------------------------------------------------------

    async def QueueBatch(  # noqa: N802
        self, request: pb.QueueBatchRequest, context: grpc.aio.ServicerContext
    ) -> pb.QueueBatchResponse:
        """On disk before it is answered; the same batch again gets the same answer."""
        batch = request.batch
        if len(batch.tasks) != len(batch.task_ids):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "batch.tasks: give the batch in the FULL view")
        answer = self._store.take(request, pb.QueueBatchResponse(refusals=self._refusals(request)))
        if answer is None:
            why = f"batch {batch.batch_id} was asked after before it came, and given up"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)
        self._work.set()
        return answer

    async def FindBatch(  # noqa: N802
        self,
        request: pb.FindBatchRequest,
        context: grpc.aio.ServicerContext,  # noqa: ARG002
    ) -> pb.FindBatchResponse:
        """A batch that is not known now is never taken from now on, should it still be on its way."""
        answer = self._store.find(request.swarm_id, request.batch_id)
        if answer is None:
            return pb.FindBatchResponse(outcome=pb.FindBatchResponse.OUTCOME_NOT_QUEUED)
        return pb.FindBatchResponse(outcome=pb.FindBatchResponse.OUTCOME_QUEUED, refusals=answer.refusals)

    async def CancelTasks(  # noqa: N802
        self,
        request: pb.GatewayServiceCancelTasksRequest,
        context: grpc.aio.ServicerContext,
    ) -> pb.GatewayServiceCancelTasksResponse:
        if len(request.task_ids) != len(request.attempts):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "attempts: give one for each of task_ids")
        self._store.cancel(request.swarm_id, zip(request.task_ids, request.attempts, strict=True))
        self._work.set()
        return pb.GatewayServiceCancelTasksResponse()

    async def WatchUpdates(  # noqa: N802
        self,
        request: pb.WatchUpdatesRequest,
        context: grpc.aio.ServicerContext,  # noqa: ARG002
    ) -> AsyncIterator[pb.WatchUpdatesResponse]:
        """The news after a place. The first message comes at once: with it the daemon knows its place."""
        seq = self._place(request.resume_token)
        interval = request.progress_interval.seconds + request.progress_interval.nanos / 1e9
        yield pb.WatchUpdatesResponse(resume_token=self._token(seq))
        while True:
            told = self._told
            news = self._store.news_after(seq)
            for seq, swarm_id, message in news:
                answer = pb.WatchUpdatesResponse(swarm_id=swarm_id, resume_token=self._token(seq))
                answer.update.ParseFromString(message)
                yield answer
            if news:
                continue
            try:
                async with asyncio.timeout(interval or None):
                    await told.wait()
            except TimeoutError:
                yield pb.WatchUpdatesResponse(resume_token=self._token(seq))

    def _token(self, seq: int) -> str:
        return f"{self._store.life}:{seq}"

    def _place(self, token: str) -> int:
        """Without a token from now on; with one that was not given by this engine, everything that there is."""
        if not token:
            return self._store.last_seq()
        life, _, seq = token.partition(":")
        return int(seq) if life == self._store.life and seq.isdigit() else 0

    def _refusals(self, request: pb.QueueBatchRequest) -> list[pb.TaskRefusal]:
        cores = request.batch.task_resources.cores
        if cores > self._cores:
            why = f"cores: {cores} are more than the {self._cores} of this engine"
            return [pb.TaskRefusal(task_ids=request.batch.task_ids, reason=why, permanent=True)]
        bad = [task.task_id for task in request.batch.tasks if "\0" in task.command]
        why = "its command contains a NUL character"
        return [pb.TaskRefusal(task_ids=bad, reason=why, permanent=True)] if bad else []

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Look what has ended, and start what fits, for ever."""
        for attempt in self._store.running():
            run = self._run_of(attempt)
            if run.fate() == NEVER_RAN and attempt.boot == boot() and not attempt.ending:
                self._start(attempt)  # the engine was killed when it was about to
        while True:
            self._work.clear()
            self._look()
            self._start_what_fits()
            try:
                async with asyncio.timeout(LOOK_SECONDS if self._runs else None):
                    await self._work.wait()
            except TimeoutError:
                pass

    def _look(self) -> None:
        ends = []
        for attempt in self._store.running():
            run = self._run_of(attempt)
            fate = run.fate()
            if fate == RUNS:
                self._see_to_its_end(attempt, run)
            else:
                ends.append(_end_of(attempt, run, fate))
        self._record(ends)

    def _record(self, ends: list[End]) -> None:
        if not ends:
            return
        self._store.end(ends)
        for each in ends:
            self._runs.pop(each.attempt.place, None)
            self._ending_since.pop(each.attempt.place, None)
        self._tell()

    def _see_to_its_end(self, attempt: Attempt, run: Run) -> None:
        """End it when it is to end: with TERM and, when that does not help, with KILL."""
        if not attempt.ending:
            if attempt.runtime and run.seconds() > attempt.runtime:
                self._store.mark(attempt, "overran")
                self._work.set()
            return
        since = self._ending_since.setdefault(attempt.place, time.monotonic())
        run.kill(signal.SIGKILL if time.monotonic() - since > KILL_AFTER_SECONDS else signal.SIGTERM)

    def _start_what_fits(self) -> None:
        running = self._store.running()
        free = self._cores - sum(each.cores for each in running)
        starting = []
        for attempt in self._store.waiting(max(0, free)):
            free -= attempt.cores
            if free < 0:
                break
            starting.append(attempt)
        if starting:
            self._store.start(starting, boot())  # on disk first: what runs is never forgotten
            self._tell()
        for attempt in starting:
            self._start(attempt)

    def _start(self, attempt: Attempt) -> None:
        environment = {
            **json.loads(attempt.environment),  # with SWARM_ID
            "SWARM_TASK_ID": str(attempt.task_id),
            "SWARM_ATTEMPT": str(attempt.attempt),
            "SWARM_TASK_NAME": attempt.name,
            "SWARM_ARRAY_ID": str(attempt.array_id),
        }
        try:
            self._run_of(attempt).start(attempt.command, environment, attempt.directory)
        except (OSError, ValueError) as error:  # a folder that is not there, a NUL in a name
            self._record([End(attempt, task_pb2.TASK_STATUS_ERROR_RECOVERABLE, f"it could not be started: {error}")])

    def _run_of(self, attempt: Attempt) -> Run:
        key = attempt.swarm_id, attempt.task_id, attempt.attempt
        return self._runs.setdefault(attempt.place, Run(self._root, *key))

    def _tell(self) -> None:
        """Wake all who watch."""
        self._told.set()
        self._told = asyncio.Event()


def _end_of(attempt: Attempt, run: Run, fate: Fate) -> End:
    if fate == 0:
        return End(attempt, task_pb2.TASK_STATUS_DONE)
    if attempt.ending == "overran":
        why = f"it ran longer than the {attempt.runtime:g} s that its resources allow"
        return End(attempt, task_pb2.TASK_STATUS_ADJUSTING_RESOURCES, why)
    what = "it was killed and left no exit code" if fate in (LOST, NEVER_RAN) else f"exit code {fate}"
    return End(attempt, task_pb2.TASK_STATUS_ERROR_RECOVERABLE, f"{what}\n{run.tail()}".strip())


class TokenCheck(grpc.aio.ServerInterceptor):
    """Lets in who shows the token."""

    def __init__(self, token: str) -> None:
        self._wanted = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        shown = dict(details.invocation_metadata or ()).get("authorization", "")
        if hmac.compare_digest(shown.encode(), self._wanted):
            return await continuation(details)
        handler = await continuation(details)
        return _turned_away(streams=handler is not None and handler.response_streaming)


def _turned_away(*, streams: bool) -> grpc.RpcMethodHandler:
    async def abort(_: object, context: grpc.aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "authorization: the token is missing or wrong")

    return (grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler)(abort)


# -- the program -------------------------------------------------------------------------------------------------------


def main() -> None:
    arguments = _parser().parse_args()
    with _folder_of_its_own(arguments.state):
        asyncio.run(serve(arguments))


def _folder_of_its_own(state: Path) -> BinaryIO:
    """The folder with what must not be forgotten, for one engine at a time: as long as the lock is open."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (state / "engine.lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"engine: another engine has {state}; give each its own with --state")
    except OSError as error:
        sys.exit(f"engine: --state: {error}")
    return lock


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", required=True, metavar="ADDRESS", help="unix:PATH or HOST:PORT")
    parser.add_argument("--state", required=True, type=Path, metavar="DIR", help="what must not be forgotten")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="so many run at once")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="callers must show the token in it")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="FILE")
    parser.add_argument("--insecure", action="store_true", help="ask nobody for a token over TCP")
    return parser


async def serve(arguments: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT. What runs goes on; the next engine takes it up."""
    token = _read(arguments.token_file).decode().strip() if arguments.token_file else ""
    if arguments.token_file and not token:
        sys.exit(f"engine: {arguments.token_file} is empty, so anybody would be let in; write a token into it")
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        sys.exit("engine: a certificate and its key belong together: give --tls-cert and --tls-key")
    if arguments.cores < 1:
        sys.exit(f"engine: --cores: with {arguments.cores} nothing would ever run; give 1 or more")
    is_socket = arguments.listen.startswith("unix:")
    if not (is_socket or token or arguments.insecure):
        sys.exit("engine: whoever can connect can run commands as you: give --token-file, or say --insecure")
    engine = Engine(arguments.state, arguments.cores)
    server = grpc.aio.server(interceptors=[TokenCheck(token)] if token else [], options=OPTIONS)
    gateway_service_pb2_grpc.add_GatewayServiceServicer_to_server(engine, server)
    port = _bind(server, arguments)
    await server.start()
    where = arguments.listen if is_socket else f"{arguments.listen.rpartition(':')[0]}:{port}"
    print(f"engine: listening at {where}", flush=True)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    working = asyncio.create_task(engine.work())
    stopping = asyncio.create_task(over.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    await server.stop(STOP_SECONDS)
    if working.done():  # it never ends but by an error
        try:
            working.result()
        except sqlite3.Error as error:
            sys.exit(f"engine: what it must not forget cannot be written in {arguments.state}: {error}")


def _bind(server: grpc.aio.Server, arguments: argparse.Namespace) -> int:
    address = arguments.listen
    if address.startswith("unix:"):
        _make_way(Path(address.removeprefix("unix:")))
    elif not (address.rpartition(":")[2].isdigit() and int(address.rpartition(":")[2]) <= 65_535):
        sys.exit(f"engine: --listen: {address} is neither unix:PATH nor HOST:PORT with a port up to 65535")
    before = os.umask(0o077)  # a socket is its owner's alone
    try:
        if arguments.tls_cert is None:
            return server.add_insecure_port(address)
        pair = _read(arguments.tls_key), _read(arguments.tls_cert)
        return server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except RuntimeError:
        what = "and are the certificate and its key PEM files that belong together?" if arguments.tls_cert else ""
        sys.exit(f"engine: it cannot listen at {address}: is it this machine's, and free? {what}".strip())
    finally:
        os.umask(before)


def _make_way(path: Path) -> None:
    """The socket of an engine that was killed goes; whatever else is there is somebody's."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            sys.exit(f"engine: --listen: {path} is there already, and is no socket; give another path")
        with socket.socket(socket.AF_UNIX) as caller:
            if caller.connect_ex(str(path)) == 0:
                sys.exit(f"engine: --listen: somebody listens at {path} already; give another path")
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        sys.exit(f"engine: --listen: {error}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        sys.exit(f"engine: {error}")


if __name__ == "__main__":
    main()
