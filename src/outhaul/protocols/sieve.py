"""Sorts what a request said into records that can be taken and those that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul import records
from outhaul.records import Parsed, Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.records import Reason, Record


class Sieve:
    """Collects one request's records in stored form, and sets aside what breaks a rule."""

    def __init__(self, received_at: int) -> None:
        self.parsed = Parsed(records=[], rejects=[])
        self._received_at = received_at

    def keep(self, record: Record, raw: Callable[[], str]) -> None:
        """Take a record built in code; `raw` gives what was sent, and is asked only if it breaks a rule."""
        try:
            stored = records.validated(record)
            records.check(stored, self._received_at)
        except records.Invalid as error:
            self.set_aside(error.reason, error.detail, raw())
        else:
            self.parsed.records.append(stored)

    def set_aside(self, reason: Reason, detail: str, raw: str) -> None:
        """Leave it out of the records, but not out of the count."""
        self.parsed.rejects.append(Reject(reason=reason, detail=detail, raw=raw))
