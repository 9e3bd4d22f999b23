"""Dates as the old API reads them, which is more than RFC 3339, as ms since 1970 UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from outhaul.errors import Invalid

DAY_MS = 24 * 3600 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


def read_instant(name: str, text: str) -> int:
    """A date-time; one without an offset is in UTC.

    Raises:
        Invalid: it is none, naming the field.
    """
    written = text.strip().upper()
    wrong = Invalid(f"{name} is not a date-time.", hint="Write it as 2016-05-01T00:00:00Z.")
    if not _INSTANT.fullmatch(written):
        raise wrong
    try:
        moment = datetime.fromisoformat(written)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise wrong from None
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def read_day(name: str, text: str) -> int:
    """The start of a UTC day, from a full-date or from a date-time in that day: clients send either.

    Raises:
        Invalid: it is neither, naming the field.
    """
    written = text.strip()
    try:
        if _DAY.fullmatch(written):
            return (date.fromisoformat(written) - _EPOCH.date()).days * DAY_MS
        instant = read_instant(name, written)
    except (ValueError, Invalid):
        raise Invalid(f"{name} is not a date.", hint="Write it as 2016-05-01.") from None
    return instant - instant % DAY_MS
