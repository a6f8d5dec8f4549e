"""A swarm's journal as JSON Lines, for people and programs, and back.

    {"journal": {"swarm_id": "study", "format": 2}}
    {"snapshot": {"seq": 812, "facts": {...}}}
    {"column": "status", "values": [6, 6, 2]}            one line for each column of the snapshot
    {"text": "commands", "utf8": "..."}                  or "base64", for what is no text
    {"seq": 813, "at": 1767225600.5, "event": {...}}     one line for each event, as its protobuf message in JSON
    {"problem": "..."}                                   where something could not be read

What is exported whole can be imported again and is the same swarm.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from swarmd._pb.swarm.journal.v1 import event_pb2 as pb
from swarmd.core.errors import DamagedError, InvalidInputError
from swarmd.core.events import Configured, Created
from swarmd.core.freezing import DTYPES
from swarmd.journal.encoding import WIDTHS, decode, encode
from swarmd.journal.segment import Record
from swarmd.journal.snapshot import read_snapshot
from swarmd.journal.store import SwarmStore

FORMAT = 2

Line = dict[str, Any]


def exported(store: SwarmStore) -> Iterator[Line]:
    """Everything that can be read, line by line; what cannot is told as a problem. Use it on a copy of the files."""
    yield {"journal": {"swarm_id": store.folder.name, "format": FORMAT}}
    seq = 0
    problems: list[str] = []
    for path in store.snapshots():
        try:
            seq, sections = read_snapshot(path)
        except (DamagedError, OSError) as error:
            problems.append(str(error))
            continue
        yield from _snapshot_lines(seq, sections)
    for record in store.records(after=seq, damaged=problems.append):
        if record.seq != seq + 1:
            problems.append(f"the events {seq + 1} to {record.seq - 1} are not there")
        seq = record.seq
        try:
            event = _event_line(record)
        except (DamagedError, ValueError) as error:
            problems.append(f"event {seq}: {error}")
            continue
        while problems:
            yield {"problem": problems.pop(0)}
        yield event
    yield from ({"problem": problem} for problem in problems)


def _snapshot_lines(seq: int, sections: dict[str, bytearray]) -> Iterator[Line]:
    yield {"snapshot": {"seq": seq, "facts": json.loads(bytes(sections["facts"]))}}
    for name, data in sections.items():
        if name in DTYPES:
            yield {"column": name, "values": np.frombuffer(data, dtype=DTYPES[name]).tolist()}
        elif name != "facts":
            yield {"text": name, **_text(bytes(data))}


def _text(data: bytes) -> Line:
    try:
        return {"utf8": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _event_line(record: Record) -> Line:
    message = pb.Event.FromString(record.event)
    line: Line = {"seq": record.seq, "at": record.at, "event": MessageToDict(message)}
    if message.WhichOneof("event") == "load_part":
        part = message.load_part
        line["event"] = {"loadPart": {"loadId": part.load_id, "tasks": _readable_columns(part.tasks)}}
    return line


def _readable_columns(columns: pb.TaskColumns) -> Line:
    numbers = {name: np.frombuffer(getattr(columns, name), dtype=width).tolist() for name, width in WIDTHS.items()}
    return {
        **numbers,
        "statuses": list(columns.statuses),
        "names": _readable_texts(columns.names),
        "commands": _readable_texts(columns.commands),
        "scale_sets": [dict(each.scales) for each in columns.scale_sets],
    }


def _readable_texts(column: pb.TextColumn) -> list[str]:
    ends = np.frombuffer(column.ends, dtype="<i8").tolist()
    return [column.data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]


# -- back --------------------------------------------------------------------------------------------------------------


def imported(lines: Iterable[str], make: Callable[[str], SwarmStore], *, until: int | None = None) -> tuple[str, int]:
    """Make a store of exported lines; `make` is given the swarm's id. Returns the id and the number of the last event.

    With `until` events behind that one are left out, and the swarm is paused: its engine may have more than it knows
    of. Raises InvalidInputError that names the line.
    """
    reader = _Reader(until)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            reader.take(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, ParseError, DamagedError) as error:
            told = error.message if isinstance(error, DamagedError) else str(error)
            raise InvalidInputError(f"line {number}: it is not what `swarmd journal export` writes: {told}") from error
    reader.check_whole()
    store = make(reader.swarm_id)
    store.fill(reader.snapshot_seq, reader.sections, reader.records)
    return reader.swarm_id, reader.seq


class _Reader:
    """What was read so far."""

    def __init__(self, until: int | None) -> None:
        self.swarm_id = ""
        self.seq = 0
        self.snapshot_seq = 0
        self.sections: dict[str, bytes] = {}
        self.records: list[Record] = []
        self._until = until
        self._is_cut = False

    def take(self, line: Line) -> None:
        if "journal" in line:
            if line["journal"]["format"] > FORMAT:
                raise DamagedError(f"its format is {line['journal']['format']}; this version reads up to {FORMAT}")
            self.swarm_id = line["journal"]["swarm_id"]
        elif "snapshot" in line:
            self.seq = self.snapshot_seq = line["snapshot"]["seq"]
            self.sections = {"facts": json.dumps(line["snapshot"]["facts"]).encode()}
            self.records.clear()
        elif "column" in line:
            name = line["column"]
            self.sections[name] = np.array(line["values"], dtype=DTYPES[name]).tobytes()
        elif "text" in line:
            data = line["utf8"].encode() if "utf8" in line else base64.b64decode(line["base64"])
            self.sections[line["text"]] = data
        elif not self._is_beyond(self.seq + 1):
            self._take_event(line)

    def _is_beyond(self, seq: int) -> bool:
        self._is_cut = self._is_cut or (self._until is not None and seq > self._until)
        return self._is_cut

    def _take_event(self, line: Line) -> None:
        if "problem" in line:
            raise DamagedError(
                f"it tells of a problem ({line['problem']}); with `--until {self.seq}` what is before it is taken"
            )
        if line["seq"] != self.seq + 1:
            raise DamagedError(f"event {self.seq + 1} is missing; with `--until {self.seq}` those before it are taken")
        event = encode_message(line["event"])
        decode(event)
        self.records.append(Record(line["seq"], float(line["at"]), event))
        self.seq = line["seq"]

    def check_whole(self) -> None:
        """Raise when this is no swarm, and add what says that it was cut."""
        begins = self.snapshot_seq or (self.records and isinstance(decode(self.records[0].event), Created))
        if not (self.swarm_id and begins):
            raise InvalidInputError("the file has neither a snapshot nor the event that created the swarm")
        if self._is_cut:
            self.seq += 1
            at = self.records[-1].at if self.records else 0.0
            self.records.append(Record(self.seq, at, encode(Configured(paused=True))))


def encode_message(event: Line) -> bytes:
    """The bytes of an exported event."""
    part = event.get("loadPart")
    if part is None:
        return ParseDict(event, pb.Event()).SerializeToString()
    tasks = part["tasks"]
    columns = pb.TaskColumns(
        **{name: np.array(tasks[name], dtype=width).tobytes() for name, width in WIDTHS.items()},
        statuses=bytes(tasks["statuses"]),
        names=_texts_of(tasks["names"]),
        commands=_texts_of(tasks["commands"]),
        scale_sets=[pb.ScaleSet(scales=scales) for scales in tasks["scale_sets"]],
    )
    return pb.Event(load_part=pb.LoadPart(load_id=part["loadId"], tasks=columns)).SerializeToString()


def _texts_of(texts: list[str]) -> pb.TextColumn:
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype="<i8").tobytes() if encoded else b""
    return pb.TextColumn(data=b"".join(encoded), ends=ends)


def write_lines(lines: Iterable[Line], write: Callable[[str], object]) -> list[str]:
    """Write lines; returns the problems among them."""
    problems = []
    for line in lines:
        write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        if "problem" in line:
            problems.append(line["problem"])
    return problems
