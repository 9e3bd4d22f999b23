"""Python's dates and times → instants as the server takes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from outhaul import instants
from outhaul.errors import Invalid

Moment = str | date | datetime
"""RFC 3339 text, a date (its start in UTC), or a datetime that knows its zone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(name: str, value: Moment) -> str:
    """An instant as text; text is passed on as it is, for the server to judge.

    Raises:
        Invalid: a datetime has no zone, naming `name`.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, datetime):
        return value.isoformat()
    if value.utcoffset() is None:
        raise Invalid(
            f"{name} is {value.isoformat()}, which does not say in which time zone.",
            hint="Give an aware datetime, such as datetime.now(UTC) or datetime(2026, 11, 23, tzinfo=UTC).",
        )
    return instants.show((value - _EPOCH) // timedelta(milliseconds=1))
