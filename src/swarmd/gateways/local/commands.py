"""How a command becomes the arguments of a program: split into words, or given to the shell.

Used by `launching`. Pure.
"""

import re

SHELL = b"/bin/sh"
LONGEST_ARGUMENT = 131_071
"""Linux takes 32 pages an argument (MAX_ARG_STRLEN), the closing NUL included; execve(2)."""

_PLAIN_COMMAND = re.compile(r"/[\w./@%:,+-]+(?: +[\w./@%:,+=-]+)*", re.ASCII)
"""A program by its full path with words that mean themselves to every shell."""


def plain_arguments(command: str) -> list[bytes] | None:
    """The program and its arguments when the shell would do nothing but execute them, else None.

    Leaving the shell out halves what a short task costs. GNU make does the same, by the same reasoning.
    """
    return command.encode().split() if _PLAIN_COMMAND.fullmatch(command) else None


def shell_arguments(command: str) -> list[bytes]:
    """How the shell gets the command: as one argument, or in pieces where it is longer than one may be."""
    pieces = pieces_of(command)
    if len(pieces) == 1:
        return [SHELL, b"-c", *pieces]
    # The pieces are put together before eval runs the whole, whose beginning hides them from the command.
    return [SHELL, b"-c", f'eval "set --; {joined(pieces)}"'.encode(), SHELL, *pieces]


def pieces_of(command: str) -> list[bytes]:
    """The command in as many arguments as it needs; one, unless it is longer than an argument may be."""
    text = command.encode("utf-8", "surrogateescape")
    return [text[start : start + LONGEST_ARGUMENT] for start in range(0, len(text), LONGEST_ARGUMENT)] or [b""]


def joined(pieces: list[bytes]) -> str:
    """The shell's words for the whole of the pieces that are its positional parameters."""
    return "".join(f"${{{number}}}" for number in range(1, len(pieces) + 1))
