"""Messages to every RPC of a running daemon: valid HTTP/2, and anything in it."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.fuzz.corpus import METHODS, path_of
from tests.fuzz.finding import FindingError

CALL_SECONDS = 20.0
STREAM_MESSAGES = 3
MAY_WAIT = {"WatchSwarm": 0.05, "HasWork": 0.3, "Tick": 0.3}
"""Calls that wait for as long as they are told, and after how many seconds they are left alone."""
ALONGSIDE = ("JOURNAL_CLOSED",)
"""What comes of calls while what was thrown at the port deletes their swarm."""
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE)


def _raw(data: bytes) -> bytes:
    return data


class Caller:
    """One channel that sends bytes as they are."""

    def __init__(self, address: str, source: random.Random) -> None:
        self._random = source
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._calls: dict[str, Callable[..., Any]] = {name: self._made(name) for name in METHODS}

    def close(self) -> None:
        self._channel.close()

    def _made(self, name: str) -> Callable[..., Any]:
        method = METHODS[name]
        kinds = {
            (False, False): self._channel.unary_unary,
            (True, False): self._channel.stream_unary,
            (False, True): self._channel.unary_stream,
            (True, True): self._channel.stream_stream,
        }
        make: Any = kinds[method.client_streaming, method.server_streaming]
        made: Callable[..., Any] = make(path_of(name), request_serializer=_raw, response_deserializer=_raw)
        return made

    def call(self, name: str, data: Sequence[bytes]) -> str:
        """What became of it, in few words. Raises FindingError for a status that no caller may get."""
        method = METHODS[name]
        request: bytes | Iterator[bytes] = iter(data) if method.client_streaming else data[0]
        endless = name == "WatchSwarm"
        try:
            call = self._calls[name](request, timeout=MAY_WAIT.get(name, CALL_SECONDS))
            if not method.server_streaming:
                return f"{name} OK"
            answers = [answer for answer, _ in zip(call, range(STREAM_MESSAGES), strict=False)]
            if endless:
                call.cancel()
            return f"{name} OK {len(answers)}"
        except grpc.RpcError as error:
            return self._judged(error, name, data)

    def _judged(self, error: Any, name: str, data: Sequence[bytes]) -> str:
        code: grpc.StatusCode = error.code()
        status = rpc_status.from_call(error)
        reason = ""
        for detail in status.details if status is not None else ():
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                reason = info.reason
        hangs = code is grpc.StatusCode.DEADLINE_EXCEEDED and name not in MAY_WAIT
        if (code in FAULTS and reason not in ALONGSIDE) or hangs:
            raise FindingError(f"{code.name}: {error.details()}", name, data[0])
        where = re.sub(r"[0-9]+", "N", (error.details() or "").partition(":")[0])[:40]
        return f"{name} {code.name} {reason} {where}"
