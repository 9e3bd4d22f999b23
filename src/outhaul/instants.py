"""Instants as text: RFC 3339 in, RFC 3339 out; ms since 1970 UTC inside."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from outhaul.errors import Invalid

LAST = 253_402_300_799_999
"""The last ms of the year 9999, which is as far as dates go."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(name: str, text: str) -> int:
    """The ms of an RFC 3339 instant, or of the start in UTC of a date; fractions below a ms are cut off.

    Raises:
        Invalid: it is neither, or is before 1970, naming `name`.
    """
    wrong = Invalid(
        f"{name} is not an instant.",
        hint="Use RFC 3339, such as 2026-11-23T12:00:00Z, or a date, such as 2026-11-23.",
    )
    try:
        if _DATE.fullmatch(text):
            moment = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        elif _INSTANT.fullmatch(text):
            moment = datetime.fromisoformat(text.upper())
        else:
            raise wrong
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        raise wrong from None
    if since < timedelta(0):
        raise Invalid(f"{name} is before 1970.", hint="Nothing that old is stored.")
    milliseconds = since // timedelta(milliseconds=1)
    if milliseconds > LAST:
        # Only an offset leads there: the year itself has four digits.
        raise wrong
    return milliseconds


def show(milliseconds: int) -> str:
    """An instant as RFC 3339 in UTC, to the ms; what is after the year 9999 as its end."""
    moment = _EPOCH + timedelta(milliseconds=min(milliseconds, LAST))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
