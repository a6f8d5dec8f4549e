"""Who listens at a port of this machine: before a secret is sent there in the clear.

Ports above 1,023 are anybody's: while a daemon is down, another user of the machine can take its place.
"""

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTENING = "0A"
WILDCARDS = frozenset({ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("::")})  # noqa: S104 - looked for, not bound

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def listeners_at(host: str, port: int) -> set[int]:
    """The users whose sockets listen where a connection to this loopback address may end. Empty: nobody listens."""
    addresses = {*_addresses_of(host), *WILDCARDS}
    return {uid for address, at, uid in _listening() if at == port and address in addresses}


def _addresses_of(host: str) -> set[Ip]:
    if host == "localhost":
        return {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    address = ipaddress.ip_address(host)
    return {address, ipaddress.ip_address(f"::ffff:{address}")} if address.version == 4 else {address}


def _listening() -> Iterator[tuple[Ip, int, int]]:
    """Address, port and user of every listening socket. O(sockets of the machine)."""
    for table in TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:  # no such protocol here
            continue
        for line in lines:
            words = line.split()
            if words[3] == LISTENING:
                address, _, port = words[1].partition(":")
                yield _address(address), int(port, 16), int(words[7])


def _address(text: str) -> Ip:
    """As the kernel prints it: words of 32 bits in the machine's own order."""
    words = (int(text[start : start + 8], 16) for start in range(0, len(text), 8))
    return ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
