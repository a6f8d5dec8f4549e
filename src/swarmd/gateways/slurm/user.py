"""Whose jobs these are."""

import os
import pwd


def user_name() -> str:
    """The name of the user that this process runs as. It may ask a directory far away, so it is called in a thread."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
