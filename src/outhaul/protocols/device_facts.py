"""What protocols tell about a device, brought into the form that `Device` records have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

_VERSION_CODE_DIGITS = 18


def version_code(build: str | None) -> int | None:
    """The number of a build as a whole number, none where it is something else."""
    digits = build or ""
    whole = digits.isascii() and digits.isdecimal() and len(digits) <= _VERSION_CODE_DIGITS
    return int(digits) if whole else None


def zone_offset(zone: Any, time: int) -> int | None:
    """Minutes from UTC of a zone named as in the IANA database, at a time in ms UTC; none if there is no such zone."""
    if not isinstance(zone, str) or not zone:
        return None
    try:
        offset = datetime.fromtimestamp(time / 1000, UTC).astimezone(ZoneInfo(zone)).utcoffset()
    except (KeyError, ValueError, OSError):
        return None
    return None if offset is None else int(offset.total_seconds()) // 60


def network_type(*, wifi: Any, cellular: Any) -> str | None:
    """`wifi` or `mobile`, none where neither is said to be in use."""
    if wifi is True:
        return "wifi"
    return "mobile" if cellular is True else None
