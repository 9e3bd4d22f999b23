"""Exit codes: what a script can tell from them, once."""

from __future__ import annotations

from typing import NamedTuple

from outhaul.errors import (
    Busy,
    Cancelled,
    Conflict,
    ErasureFailed,
    ExportFailed,
    Forbidden,
    ImportFailed,
    NotFound,
    OuthaulError,
    Unauthenticated,
)


class Exit(NamedTuple):
    code: int
    meaning: str
    errors: tuple[type[OuthaulError], ...] = ()
    """The errors that end a command with this code."""


ERROR = 1
USAGE = 2
FAILED = 5
INTERRUPTED = 130
EXITS = (
    Exit(0, "Done."),
    Exit(ERROR, "An error that has no code of its own; `doctor` and `export check` found something wrong."),
    Exit(USAGE, "The command was called wrongly: `--help` shows how."),
    Exit(3, "Not authenticated, or not allowed.", (Unauthenticated, Forbidden)),
    Exit(4, "There is no such thing.", (NotFound,)),
    Exit(
        FAILED,
        "What was followed failed or was cancelled.",
        (ExportFailed, ErasureFailed, ImportFailed, Cancelled),
    ),
    Exit(6, "It exists already, or the state of things does not allow it now.", (Conflict,)),
    Exit(7, "The server cannot be reached or is busy: later it may work.", (Busy,)),
    Exit(INTERRUPTED, "Interrupted with Ctrl-C."),
)
"""Every exit code."""


def exit_code(error: OuthaulError) -> int:
    """The code that a command ends with on an error."""
    return next((way.code for way in EXITS if isinstance(error, way.errors)), ERROR)
