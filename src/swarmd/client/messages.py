"""Messages from a caller's values: what does not fit is the caller's error, and says which value it is."""

from typing import TypeVar

from google.protobuf.message import Message

from swarmd.core.errors import InvalidInputError

MessageT = TypeVar("MessageT", bound=Message)

UNFIT = (AttributeError, OverflowError, TypeError, ValueError)
"""What Python and protobuf raise for values that are of the wrong kind or out of range."""


def message_of(kind: type[MessageT], **fields: object) -> MessageT:
    """A message with these fields; None is left out. Raises InvalidInputError, which names the field."""
    try:
        return kind(**fields)
    except UNFIT as error:
        for name, value in fields.items():
            try:
                kind(**{name: value})
            except UNFIT as reason:
                raise unfit(name, value, reason) from None
        raise unfit("", fields, error) from None


def unfit(field: str, value: object, error: Exception) -> InvalidInputError:
    """The error for a value that no message can carry."""
    shown = repr(value) if len(repr(value)) <= 100 else f"{repr(value)[:100]}..."
    where = f"{field}: " if field else ""
    return InvalidInputError(f"{where}{shown} cannot be sent: {error}", reason="INVALID_VALUE", field=field)
