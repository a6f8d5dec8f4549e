"""Changes to messages and to bytes: mostly something that is nearly right, since that gets furthest."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

NUMBERS = (0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 1000, (1 << 30) - 1, 1 << 30, (1 << 31) - 1, 1 << 31, -(1 << 31))
LARGE_NUMBERS = (1 << 32, 1 << 40, (1 << 40) - 1, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63))
REALS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "s",
    "a",
    "../../x",
    "/etc/passwd",
    "..",
    "a\0b",
    "line\nline",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202eright to left",
    "\ud7ff\ue000\uffff\U0010ffff",
    "{task_id} {task_name} {nothing} {",
    "%s%n%d",
    "'; exit 1; '",
    "é" * 128,
    "x" * 257,
    "x" * 1025,
    "x" * 4097,
)
Field = Any
"""A FieldDescriptor: there are two kinds of them, and the stubs know only one."""
LARGEST_MESSAGE = 200_000
SMALL_ID = 12


class Mutator:
    """Reproducible: the same seed makes the same changes."""

    def __init__(self, source: random.Random) -> None:
        self._random = source

    def data(self, message_class: type[Message], corpus: Sequence[bytes]) -> bytes:
        """The bytes of a message, changed in one to a few places, sometimes so that they are none any more."""
        chosen = self._random.choice(corpus)
        if self._random.random() < 0.75:
            try:
                message = message_class.FromString(chosen)
            except DecodeError:
                return self.changed_bytes(chosen, corpus)
            for _ in range(self._random.choice((1, 1, 1, 2, 3, 6))):
                self.change(message)
            chosen = message.SerializeToString()
            if self._random.random() < 0.9:
                return chosen[:LARGEST_MESSAGE]
        return self.changed_bytes(chosen, corpus)

    # -- messages ------------------------------------------------------------------------------------------------------

    def change(self, message: Message) -> None:
        """One field of the message, or of one inside of it, becomes something else."""
        target = self._random.choice(list(_messages(message)))
        field = self._random.choice(target.DESCRIPTOR.fields or [None])
        if field is None:
            return
        if self._random.random() < 0.1:
            target.ClearField(field.name)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._change_map(getattr(target, field.name), field)
        elif field.is_repeated:
            self._change_list(getattr(target, field.name), field)
        elif field.message_type is not None:
            getattr(target, field.name).SetInParent()
        else:
            setattr(target, field.name, self._value(field))

    def _change_map(self, found: Any, field: Field) -> None:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        found[self._value(key)] = self._value(value)

    def _change_list(self, found: Any, field: Field) -> None:
        what = self._random.randrange(5)
        if found and what == 0:
            del found[self._random.randrange(len(found))]
        elif found and what == 1:
            copies = [self._random.choice(found)] * self._random.choice((1, 2, 40))
            found.extend(copies)
        elif field.message_type is not None:
            self.change(found.add())
        elif found and what == 2:
            found[self._random.randrange(len(found))] = self._value(field)
        else:
            found.append(self._value(field))

    def _value(self, field: Field) -> Any:
        pick = self._random
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return self._bytes() if field.type == FieldDescriptor.TYPE_BYTES else self._text()
            case FieldDescriptor.CPPTYPE_BOOL:
                return pick.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return pick.choice(REALS)
            case FieldDescriptor.CPPTYPE_ENUM:
                return pick.choice((*field.enum_type.values_by_number, 99, -1))
            case FieldDescriptor.CPPTYPE_INT64:
                return pick.randint(1, SMALL_ID) if pick.random() < 0.6 else pick.choice(NUMBERS + LARGE_NUMBERS)
        if pick.random() < 0.5:
            return pick.randint(0, SMALL_ID)
        return max(-(1 << 31), min((1 << 31) - 1, pick.choice(NUMBERS)))

    def _text(self) -> str:
        if self._random.random() < 0.2:
            return "".join(chr(self._random.choice((self._random.randrange(128), 0x2028))) for _ in range(8))
        return self._random.choice(TEXTS)

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def _bytes(self, longest: int = 64) -> bytes:
        return self._random.randbytes(self._random.randrange(longest))

    def changed_bytes(self, data: bytes, others: Sequence[bytes] = ()) -> bytes:
        """Bits turned, pieces taken out, doubled, exchanged or put in."""
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 4, 16))):
            place = self._random.randrange(len(changed) + 1)
            length = min(len(changed) - place, self._random.choice((1, 1, 2, 4, 16, 64)))
            match self._random.randrange(7):
                case 0 if length:
                    changed[place] ^= 1 << self._random.randrange(8)
                case 1:
                    del changed[place : place + length]
                case 2:
                    changed[place:place] = changed[place : place + length] * self._random.choice((1, 1, 30))
                case 3:
                    changed[place : place + length] = self._random.choice((b"\xff", b"\0", b"\x80")) * length
                case 4:
                    changed[place:place] = self._bytes()
                case 5 if others:
                    other = self._random.choice(others)
                    start = self._random.randrange(len(other) + 1)
                    changed[place:] = other[start:]
                case 6:
                    del changed[place:]
        return bytes(changed[:LARGEST_MESSAGE])


def _messages(message: Message) -> Iterator[Message]:
    """The message and all those that are set inside of it; of long lists only the beginning."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for each in list(value)[:20] if field.is_repeated else [value]:
            yield from _messages(each)
