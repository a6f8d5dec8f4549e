"""Pages of swarms and tasks. A page ends early rather than outgrow a message."""

import asyncio
import base64
import binascii
import zlib

from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd.core.errors import InvalidInputError
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm
from swarmd.rpc import answers
from swarmd.wire import from_proto, to_proto

DEFAULT_PAGE = 100
LARGEST_SWARM_PAGE = 1000
LARGEST_TASK_PAGE = 10_000
PAGE_BYTES = 3 * 1024 * 1024
TASKS_AT_ONCE = 250
HIGHEST_POSITION = (1 << 31) - 1


async def list_swarms(registry: Registry, request: pb.ListSwarmsRequest) -> pb.ListSwarmsResponse:
    """Swarms in the order of creation."""
    size = _page_size(request.page_size, LARGEST_SWARM_PAGE)
    swarms = registry.all()
    start = _start(request.page_token, 0)
    page = swarms[start : start + size]
    response = pb.ListSwarmsResponse(swarms=[await answers.swarm(each) for each in page])
    if not start:
        response.set_aside.extend(answers.set_aside(registry))
    if start + size < len(swarms):
        response.next_page_token = _token(start + size, 0)
    return response


async def list_tasks(swarm: HostedSwarm, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
    """Tasks in the order of loading."""
    size = _page_size(request.page_size, LARGEST_TASK_PAGE)
    statuses = from_proto.statuses(request.statuses, "statuses")
    filters = zlib.crc32(repr((list(request.statuses), list(request.array_ids))).encode())
    position: int | None = _start(request.page_token, filters)
    response, used = pb.ListTasksResponse(), 0
    while position is not None and len(response.tasks) < size and used < PAGE_BYTES:
        wanted = min(TASKS_AT_ONCE, size - len(response.tasks))
        views, position = swarm.state.tasks(
            statuses=statuses, array_ids=list(request.array_ids), start=position, limit=wanted
        )
        part = [to_proto.task(view, brief=True) for view in views]
        used += sum(message.ByteSize() for message in part)
        response.tasks.extend(part)
        await asyncio.sleep(0)
    if position is not None:
        response.next_page_token = _token(position, filters)
    return response


def _page_size(asked: int, largest: int) -> int:
    if asked < 0:
        raise from_proto.negative("page_size", asked)
    return min(asked or DEFAULT_PAGE, largest)


def _token(position: int, filters: int) -> str:
    return base64.urlsafe_b64encode(f"{position}:{filters}".encode()).decode()


def _start(token: str, filters: int) -> int:
    if not token:
        return 0
    try:
        position, _, written = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        if int(written) == filters and 0 <= int(position) <= HIGHEST_POSITION:
            return int(position)
    except (ValueError, binascii.Error):
        pass
    message = "page_token: this is not a token of the same list; give the next_page_token of the page before, unchanged"
    raise InvalidInputError(message, reason="INVALID_PAGE_TOKEN", field="page_token")
