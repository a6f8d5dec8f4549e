"""The file that holds a whole swarm: written beside its place, made lasting, and put there in one step.

    header    magic, format, and the number of the last event that is in it
    sections  their bytes, one after the other
    index     name, length and CRC-32 of each section, as JSON
    footer    the length of the index, a CRC-32 of header and index, and a mark that says that all is there

So a flipped bit is found wherever it is. Knows nothing of what the sections mean, but that "facts" is JSON.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import IO
from zlib import crc32

from swarmd.core.errors import DamagedError
from swarmd.core.freezing import Facts, Frozen, Section
from swarmd.core.swarm import Swarm
from swarmd.core.thawing import thaw

FORMAT = 2
"""Raised when a snapshot of the present code could not be read by the code before it."""

_MAGIC, _END = b"SWARMD\x00S", b"COMPLETE"
_HEADER = struct.Struct("<8sIQ")
_FOOTER = struct.Struct("<QI8s")
_FACTS = "facts"
ITEMS_AT_ONCE = 500
"""Of a list of facts."""

Reach = Callable[[str], None]
"""Told of the points that a crash must not be able to do harm at; tests let it crash there."""


def take_snapshot(path: Path, seq: int, frozen: Frozen, *, reach: Reach = lambda _: None) -> int:
    """Write down a swarm as it was after event `seq`. Slow, and meant for another thread. Returns the bytes written."""
    facts: Section = (_FACTS, json_pieces(frozen.facts()))
    return write_snapshot(path, seq, chain([facts], frozen.sections()), reach=reach)


def json_pieces(facts: Facts) -> Iterator[bytes]:
    """Facts as JSON, long lists piece by piece: all at once they would be written without a turn for other threads."""
    separator = "{"
    for key, value in facts.items():
        yield f"{separator}{_json(key)}:".encode()
        separator = ","
        if isinstance(value, list):
            pieces = (value[start : start + ITEMS_AT_ONCE] for start in range(0, len(value), ITEMS_AT_ONCE))
            yield b"["
            for number, piece in enumerate(pieces):
                yield f"{',' if number else ''}{_json(piece)[1:-1]}".encode()
            yield b"]"
        else:
            yield _json(value).encode()
    yield b"}" if facts else b"{}"


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def load_snapshot(path: Path) -> tuple[int, Swarm]:
    """The number of the last event in a snapshot, and the swarm as it was after it. Raises DamagedError, OSError."""
    seq, sections = read_snapshot(path)
    try:
        facts = json.loads(bytes(sections.get(_FACTS, b"")))
        return seq, thaw(facts, sections)
    except ValueError as error:
        raise DamagedError(f"{path} is damaged: its facts are not JSON ({error})") from error
    except DamagedError as error:
        raise DamagedError(f"{path} is damaged: {error.message}") from error


def write_snapshot(path: Path, seq: int, sections: Iterable[Section], *, reach: Reach = lambda _: None) -> int:
    """Put sections into a file of mode 0600, which is there wholly and lastingly or not at all. Returns its size.

    Raises OSError when the disk is full or fails; what was there before is then there still.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            reach("snapshot.begun")
            size = _write(file, seq, sections, reach)
            file.flush()
            os.fsync(descriptor)
        reach("snapshot.written")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    reach("snapshot.renamed")
    make_lasting(path.parent)
    return size


def _write(file: IO[bytes], seq: int, sections: Iterable[Section], reach: Reach) -> int:
    header = _HEADER.pack(_MAGIC, FORMAT, seq)
    file.write(header)
    index: list[tuple[str, int, int]] = []
    for name, chunks in sections:
        length = checksum = 0
        for chunk in chunks:
            file.write(chunk)
            length, checksum = length + len(chunk), crc32(chunk, checksum)
        index.append((name, length, checksum))
        if len(index) == 1:
            reach("snapshot.half")
    written = json.dumps(index).encode()
    file.write(written)
    file.write(_FOOTER.pack(len(written), crc32(written, crc32(header)), _END))
    return file.tell()


def make_lasting(folder: Path) -> None:
    """A file that was renamed is sure to have its new name only when the folder is written down too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_snapshot(path: Path) -> tuple[int, dict[str, bytearray]]:
    """The number of the last event in a snapshot, and its sections by name, all of them checked.

    Raises DamagedError, which names the file and what is wrong with it, and OSError.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        seq, body, index = _read_index(path, file, size)
        if sum(length for _, length, _ in index) != body:
            raise DamagedError(f"{path} is damaged: its sections are not as long as its index says")
        file.seek(_HEADER.size)
        return seq, {name: _read_section(path, file, size, name, *found) for name, *found in index}


def _read_index(path: Path, file: FileIO, size: int) -> tuple[int, int, list[tuple[str, int, int]]]:
    """The number of the last event, how many bytes the sections have, and the index."""
    header = _read(path, file, min(size, _HEADER.size), size)
    if header[: len(_MAGIC)] != _MAGIC[: len(header)]:
        raise DamagedError(f"{path} is damaged: it does not begin as a snapshot does")
    if size < _HEADER.size + _FOOTER.size:
        raise _cut_off(path, size)
    _, version, seq = _HEADER.unpack(header)
    if version > FORMAT:
        message = f"{path} was written by a newer version of swarmd (format {version}; this one reads up to {FORMAT})"
        raise DamagedError(message)
    file.seek(size - _FOOTER.size)
    index_length, checksum, end = _FOOTER.unpack(_read(path, file, _FOOTER.size, size))
    if end != _END:
        raise _cut_off(path, size)
    start = size - _FOOTER.size - index_length
    if start >= _HEADER.size:
        file.seek(start)
        index = _read(path, file, index_length, size)
        if crc32(index, crc32(header)) == checksum:
            return seq, start - _HEADER.size, json.loads(bytes(index))
    raise DamagedError(f"{path} is damaged: its header and index do not match their checksum")


def _read_section(path: Path, file: FileIO, size: int, name: str, length: int, checksum: int) -> bytearray:
    section = _read(path, file, length, size)
    if crc32(section) != checksum:
        raise DamagedError(f'{path} is damaged: section "{name}" does not match its checksum')
    return section


def _read(path: Path, file: FileIO, length: int, size: int) -> bytearray:
    """The next bytes of a file of this size. Raises DamagedError when there are fewer."""
    data = bytearray(length)
    view, there = memoryview(data), 0
    while there < length:
        read = file.readinto(view[there:])
        if not read:
            raise _cut_off(path, size)
        there += read
    view.release()
    return data


def _cut_off(path: Path, size: int) -> DamagedError:
    return DamagedError(f"{path} is cut off after {size} bytes")
