"""What `outhaul doctor` finds: one line for each thing it looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec import Struct

from outhaul.errors import OuthaulError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """How a thing is, and what to do about it."""

    result: Result
    detail: str
    cure: str = ""


class Check(Struct, frozen=True):
    """A thing that was looked at."""

    name: str
    result: Result
    detail: str
    cure: str


def look(name: str, at: Callable[[], Finding]) -> Check:
    """Look at one thing; that it cannot be looked at is a finding too."""
    try:
        found = at()
    except OuthaulError as error:
        found = Finding("fail", error.message, error.hint)
    except Exception as error:  # noqa: BLE001  whatever is wrong with it is what was asked for
        found = Finding("fail", f"{type(error).__name__}: {error}")
    return Check(name, found.result, found.detail, found.cure)
